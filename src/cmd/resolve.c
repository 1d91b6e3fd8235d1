/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "cmd/cmd.h"
#include "vmm/qemu/qemu.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static void help(FILE *out) {
    fputs("Usage: godwit resolve --qmp SOCKET [--take-back]\n"
          "\n"
          "Puts a source QEMU in order after 'godwit send' and its guardian were both killed: a migration that was "
          "under\n"
          "way is cancelled, the guest runs on, and what was set is set back.\n"
          "\n"
          "  --qmp SOCKET  the QMP monitor of the source QEMU\n"
          "  --take-back   the guest was handed over, or may have been, and the destination's VMM has been ended:\n"
          "                let it run here\n"
          "  -h, --help    this text\n"
          "\n"
          "Exit status: 0 done; 1 refused or failed; 2 wrong use.\n",
          out);
}

static int resolve(const char *path, bool take_back) {
    struct error err = { 0 };
    struct vmm *vmm = vmm_qemu_open(path, 0, &err);
    bool running = false;
    if (vmm == NULL || vmm_qemu_resolve(vmm, take_back, &err) < 0 || vmm->ops->guest_running(vmm, &running, &err) < 0) {
        log_error("%s", err.desc);
    } else {
        printf("the guest %s\n", running ? "runs" : "is paused");
    }
    if (vmm != NULL) {
        vmm->ops->close(vmm);
    }
    return error_is_set(&err) ? EXIT_FAILED : EXIT_DONE;
}

int cmd_resolve(int argc, char **argv) {
    static const struct option names[] = { { "qmp", required_argument, NULL, 'q' },
                                           { "take-back", no_argument, NULL, 't' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    const char *path = NULL;
    bool take_back = false;
    int option;
    log_setup("godwit resolve", LOG_WARNING);
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        switch (option) {
        case 'q':
            path = optarg;
            break;
        case 't':
            take_back = true;
            break;
        case 'h':
            help(stdout);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (path == NULL || optind != argc) {
        help(stderr);
        return EXIT_USAGE;
    }
    return resolve(path, take_back);
}
