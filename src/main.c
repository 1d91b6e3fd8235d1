/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the subcommand. The only place that decides how the process ends. */
#include "cmd/cmd.h"
#include "cmd/probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    { "send", cmd_send, "move a running guest to another host" },
    { "receive", cmd_receive, "wait for a guest on the other host" },
    { "relay", cmd_relay, "stand in the way of QEMU's own migrations and carry them" },
    { "check", cmd_check, "say everything that would stop a migration" },
    { "probe", cmd_probe, "say what this host offers and what is missing" },
    { "predict", cmd_predict, "say whether a migration would end, when, and at what cost" },
    { "bench", cmd_bench, "try codecs on memory of this host" },
    { "status", cmd_status, "ask a running migration how it goes" },
    { "set", cmd_set, "change a parameter of a running migration" },
    { "resolve", cmd_resolve, "put a source in order that nobody looks after any more" },
    { "cancel", cmd_cancel, "end a running migration; the guest stays where it is" },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *out) {
    fputs("godwit moves running QEMU guests to another host, from outside QEMU.\n"
          "\n"
          "Usage: godwit COMMAND [OPTION]...\n"
          "\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fprintf(out, "  %-8s  %s\n", commands[i].name, commands[i].help);
    }
    fputs("\n'godwit COMMAND --help' tells more of one; 'godwit --version' tells the version.\n", out);
}

/* A standard descriptor that is closed would be the next socket or file that is opened, and what is printed would go
 * into it. */
static void fill_standard_descriptors(void) {
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

int main(int argc, char **argv) {
    fill_standard_descriptors();
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("godwit " GODWIT_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, argv[1]) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "godwit: there is no command '%s' (godwit --help lists them)\n", argv[1]);
    return EXIT_USAGE;
}
