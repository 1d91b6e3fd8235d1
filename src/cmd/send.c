/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "migrate/source.h"
#include "vmm/qemu/qemu.h"

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
    switch (options_parse(&o, argc, argv, help)) {
    case OPTIONS_DONE:
        return EXIT_DONE;
    case OPTIONS_WRONG:
        return EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    struct error err = { 0 };
    struct source_config config = { .to = o.address,
                                    .params = o.params,
                                    .events_path = o.events_path,
                                    .control_path = o.control_path,
                                    .progress = !o.quiet && isatty(STDERR_FILENO) };
    config.signal_fd = options_signals(&err);
    if (config.signal_fd < 0) {
        return options_fail(&o, &err, EXIT_FAILED);
    }
    config.vmm = vmm_qemu_open(o.qmp_path, o.pid, &err);
    if (config.vmm == NULL) {
        return options_fail(&o, &err, EXIT_FAILED);
    }
    json_t *report;
    int status = source_run(&config, &report);
    config.vmm->ops->close(config.vmm);
    options_report(&o, report);
    return status;
}
