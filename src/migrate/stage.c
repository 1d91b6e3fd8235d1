/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/stage.h"

#include "migrate/destination_stages.h"
#include "migrate/source.h"

#include <string.h>

const struct stage stages[] = {
    { "connect", "setup", source_connect, NULL },
    { "inspect", "setup", source_inspect, destination_inspect },
    { "attach", "setup", source_attach, destination_attach },
    { "ram-full", "active", source_ram_full, NULL },
    { "iterate", "active", source_iterate, destination_iterate, .repeats = true },
    { "stop", "active", source_stop, destination_stop },
    { "final", "pre-switchover", source_final, destination_final, .repeats = true },
    { "device", "device", source_device, destination_device },
    { "hand-over", "device", source_hand_over, NULL },
    { "run", "device", source_run_destination, destination_run },
    { "detach", "completed", source_detach, NULL },
};

const size_t stage_count = sizeof(stages) / sizeof(stages[0]);

int stage_find(const char *name) {
    for (size_t i = 0; i < stage_count; i++) {
        if (strcmp(stages[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}
