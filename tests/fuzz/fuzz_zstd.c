/* SPDX-License-Identifier: Apache-2.0 */
/* Zstandard frames: fuzz_codec.h has what is done with them. */
#include "fuzz_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_codec(&codec_zstd, data, size);
    return 0;
}
