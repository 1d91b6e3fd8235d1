/* SPDX-License-Identifier: Apache-2.0 */
/* A line of /proc/PID/maps (attach/process.h). */
#include "fuzz.h"
#include "host/process.h"

#include <inttypes.h>
#include <sys/sysmacros.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mapping m, again;
    char *line = text_of(data, size), text[512];
    if (process_parse_mapping(line, &m)) {
        MUST(m.start < m.end && memchr(m.path, '\0', sizeof(m.path)) != NULL && strchr(m.path, '\n') == NULL);
        /* as the kernel would print it */
        snprintf(text, sizeof(text), "%08" PRIx64 "-%08" PRIx64 " %c%c%c%c %08" PRIx64 " %02x:%02x %" PRIu64 " %s\n",
                 m.start, m.end, m.readable ? 'r' : '-', m.writable ? 'w' : '-', m.executable ? 'x' : '-',
                 m.shared ? 's' : 'p', m.offset, major(m.device), minor(m.device), (uint64_t)m.inode, m.path);
        MUST(process_parse_mapping(text, &again));
        MUST(again.start == m.start && again.end == m.end && again.offset == m.offset && again.device == m.device &&
             again.inode == m.inode && again.readable == m.readable && again.writable == m.writable &&
             again.executable == m.executable && again.shared == m.shared && strcmp(again.path, m.path) == 0);
    }
    free(line);
    return 0;
}
