/* SPDX-License-Identifier: Apache-2.0 */
/* A line of QEMU's "info ramblock" (vmm/qemu/ramblock.h). */
#include "fuzz.h"
#include "vmm/qemu/ramblock.h"

#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ramblock b, again;
    char *line = (char *)copy_of(data, size), text[512];
    if (ramblock_parse(line, size, &b)) {
        MUST(b.id[0] != '\0' && memchr(b.id, '\0', sizeof(b.id)) != NULL && b.used <= b.total);
        /* as QEMU would print it */
        int n = snprintf(text, sizeof(text),
                         "%24s    4 KiB  0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64 "  rw", b.id,
                         b.offset, b.used, b.total, b.host);
        MUST(ramblock_parse(text, (size_t)n, &again));
        MUST(strcmp(again.id, b.id) == 0 && again.offset == b.offset && again.used == b.used &&
             again.total == b.total && again.host == b.host);
    }
    free(line);
    return 0;
}
