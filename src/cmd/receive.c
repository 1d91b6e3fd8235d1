/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "migrate/destination.h"

static void help(FILE *out) {
    fputs("Usage: godwit receive --qmp SOCKET --listen ADDRESS [OPTION]...\n"
          "\n"
          "Waits for one guest and puts it into the QEMU behind SOCKET, which was started like the source's QEMU and\n"
          "with '-incoming defer -S'. Serves one migration and ends.\n"
          "\n"
          "  --qmp SOCKET      the QMP monitor of the destination QEMU: a path, unix:PATH, or tcp:HOST:PORT with\n"
          "                    --pid\n"
          "  --listen ADDRESS  tcp:HOST:PORT or unix:PATH\n"
          "  --wait SECONDS    give up when no source whose guest fits has come by then; 0, the default: never\n"
          "  --control PATH    a socket that speaks QMP while it waits and receives (query-migrate, migrate_cancel)\n",
          out);
    options_help(out);
}

int cmd_receive(int argc, char **argv) {
    struct options o = { .command = "receive", .address_name = "listen", .takes_wait = true };
    int status;
    struct vmm *vmm = options_begin(&o, argc, argv, help, &status);
    if (vmm == NULL) {
        return status;
    }
    struct destination_config config = { .vmm = vmm,
                                         .listen = o.address,
                                         .params = o.params,
                                         .events_path = o.events_path,
                                         .control_path = o.control_path,
                                         .wait = o.wait,
                                         .signal_fd = o.signal_fd };
    json_t *report;
    status = destination_serve(&config, &report);
    options_end(&o, vmm, report);
    return status;
}
