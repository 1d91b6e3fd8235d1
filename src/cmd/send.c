/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "migrate/source.h"

#include <unistd.h>

static void help(FILE *out) {
    fputs("Usage: godwit send --qmp SOCKET --to ADDRESS [OPTION]...\n"
          "\n"
          "Moves the running guest of the QEMU behind SOCKET to the host where 'godwit receive' listens.\n"
          "\n"
          "  --qmp SOCKET      the QMP monitor of the source QEMU\n"
          "  --to ADDRESS      tcp:HOST:PORT or unix:PATH of 'godwit receive'\n"
          "  --control PATH    a socket that speaks QMP while the migration runs (query-migrate, migrate_cancel,\n"
          "                    migrate-set-parameters)\n",
          out);
    options_help(out);
}

int cmd_send(int argc, char **argv) {
    struct options o = { .command = "send", .address_name = "to" };
    int status;
    struct vmm *vmm = options_begin(&o, argc, argv, help, &status);
    if (vmm == NULL) {
        return status;
    }
    struct source_config config = { .vmm = vmm,
                                    .to = o.address,
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
