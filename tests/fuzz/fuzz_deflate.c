/* SPDX-License-Identifier: Apache-2.0 */
/* Raw deflate, one stream or several: fuzz_codec.h has what is done with them. */
#include "fuzz_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_codec(&codec_deflate, data, size);
    return 0;
}
