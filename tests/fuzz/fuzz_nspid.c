/* SPDX-License-Identifier: Apache-2.0 */
/* The line NSpid of /proc/PID/status (host/process.h). */
#include "fuzz.h"
#include "host/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *line = text_of(data, size), text[64];
    pid_t id = process_parse_nspid(line);
    MUST(id >= 0);
    if (id > 0) {
        snprintf(text, sizeof(text), "NSpid:\t1\t%d\n", (int)id);
        MUST(process_parse_nspid(text) == id);
    }
    free(line);
    return 0;
}
