/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/resolve.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "vmm/qemu/qemu.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static void help(FILE *out) {
    fputs("Usage: godwit resolve --qmp SOCKET [--take-back | --run]\n"
          "\n"
          "Puts a QEMU in order after 'godwit send' or 'godwit receive' and its guardian were both killed, or after a\n"
          "break inside the hand-over: says what is on record, undoes what was changed, and lets the guest run on if\n"
          "it is certain that it runs nowhere else. From the hand-over on it is the destination that decides.\n"
          "\n"
          "  --qmp SOCKET  the QMP monitor of that QEMU: a path or unix:PATH\n"
          "  --take-back   at the source, when the destination's QEMU has ended and never ran the guest: let it run\n"
          "                here\n"
          "  --run         at the destination, when the source has handed the guest over: let it run here\n"
          "  -h, --help    this text\n"
          "\n"
          "Exit status: 0 done; 1 refused, failed, or to be decided as it says; 2 wrong use.\n",
          out);
}

static int run(const char *path, enum resolve_wish wish) {
    struct error err = { 0 };
    struct vmm *vmm = vmm_qemu_open(path, 0, &err);
    bool running = false;
    if (vmm == NULL || resolve(vmm, wish, &err) < 0 || vmm->ops->guest_running(vmm, &running, &err) < 0) {
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
                                           { "run", no_argument, NULL, 'r' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    const char *path = NULL;
    enum resolve_wish wish = RESOLVE_NOTHING;
    int option, wishes = 0;
    log_setup("godwit resolve", LOG_INFO);
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        switch (option) {
        case 'q':
            path = optarg;
            break;
        case 't':
            wish = RESOLVE_TAKE_BACK;
            wishes++;
            break;
        case 'r':
            wish = RESOLVE_RUN;
            wishes++;
            break;
        case 'h':
            help(stdout);
            return EXIT_DONE;
        default:
            return EXIT_USAGE;
        }
    }
    if (path == NULL || optind != argc || wishes > 1) {
        help(stderr);
        return EXIT_USAGE;
    }
    return run(path, wish);
}
