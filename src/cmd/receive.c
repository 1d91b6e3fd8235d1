/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "migrate/destination.h"
#include "vmm/qemu/qemu.h"

static void help(FILE *out) {
    fputs("Usage: godwit receive --qmp SOCKET --listen ADDRESS [OPTION]...\n"
          "\n"
          "Waits for one guest and puts it into the QEMU behind SOCKET, which was started like the source's QEMU and\n"
          "with '-incoming defer -S'. Serves one migration and ends.\n"
          "\n"
          "  --qmp SOCKET      the QMP monitor of the destination QEMU\n"
          "  --listen ADDRESS  tcp:HOST:PORT or unix:PATH\n"
          "  --control PATH    a socket that speaks QMP while it waits and receives (query-migrate, migrate_cancel)\n",
          out);
    options_help(out);
}

int cmd_receive(int argc, char **argv) {
    struct options o = { .command = "receive", .address_name = "listen" };
    switch (options_parse(&o, argc, argv, help)) {
    case OPTIONS_DONE:
        return EXIT_DONE;
    case OPTIONS_WRONG:
        return EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    struct error err = { 0 };
    struct destination_config config = {
        .listen = o.address, .params = o.params, .events_path = o.events_path, .control_path = o.control_path
    };
    config.signal_fd = options_signals(&err);
    if (config.signal_fd < 0) {
        return options_fail(&o, &err, EXIT_FAILED);
    }
    config.vmm = vmm_qemu_open(o.qmp_path, o.pid, &err);
    if (config.vmm == NULL) {
        return options_fail(&o, &err, EXIT_FAILED);
    }
    json_t *report;
    int status = destination_serve(&config, &report);
    config.vmm->ops->close(config.vmm);
    options_report(&o, report);
    return status;
}
