/* SPDX-License-Identifier: Apache-2.0 */
/* The destination side of one migration. */
#ifndef GODWIT_MIGRATE_DESTINATION_H
#define GODWIT_MIGRATE_DESTINATION_H

#include "params/params.h"
#include "vmm/vmm.h"
#include "wire/address.h"

#include <jansson.h>
#include <stdint.h>

struct destination_config {
    struct vmm *vmm; /* opened, not yet inspected; not owned */
    struct address listen;
    struct params params;
    const char *events_path, *control_path; /* NULL: none */
    int64_t wait;                           /* ns to wait for a source; 0: as long as it takes */
    int signal_fd;
};

/* Serves one migration. Returns the exit status (0, 1, 3) and the report of --json in *report. */
int destination_serve(const struct destination_config *config, json_t **report);

#endif
