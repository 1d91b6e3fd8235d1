/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "migrate/source.h"

#include <unistd.h>

/* As long as a receiver needs that is started in the same moment, and no longer than one waits for an error. */
#define WAIT_DEFAULT (5 * CLOCK_S)

static void help(FILE *out) {
    fputs("Usage: godwit send --qmp SOCKET --to ADDRESS [OPTION]...\n"
          "\n"
          "Moves the running guest of the QEMU behind SOCKET to the host where 'godwit receive' listens.\n"
          "\n"
          "  --qmp SOCKET      the QMP monitor of the source QEMU: a path, unix:PATH, or tcp:HOST:PORT with\n"
          "                    --pid\n"
          "  --to ADDRESS      tcp:HOST:PORT or unix:PATH of 'godwit receive'\n"
          "  --wait SECONDS    try again for so long when nobody listens there, or the host or its name cannot be\n"
          "                    reached (default: 5; 0: try once)\n"
          "  --control PATH    a socket that speaks QMP while the migration runs (query-migrate, migrate_cancel,\n"
          "                    migrate-set-parameters)\n",
          out);
    options_help(out);
}

int cmd_send(int argc, char **argv) {
    struct options o = { .command = "send", .address_name = "to", .takes_wait = true, .wait = WAIT_DEFAULT };
    int status;
    struct vmm *vmm = options_begin(&o, argc, argv, help, &status);
    if (vmm == NULL) {
        return status;
    }
    struct source_config config = { .vmm = vmm,
                                    .to = o.address,
                                    .wait = o.wait,
                                    .params = o.params,
                                    .events_path = o.events_path,
                                    .control_path = o.control_path,
                                    .progress = !o.quiet && isatty(STDERR_FILENO),
                                    .signal_fd = o.signal_fd };
    json_t *report;
    status = source_run(&config, &report);
    options_end(&o, vmm, report);
    return status;
}
