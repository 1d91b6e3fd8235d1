/* SPDX-License-Identifier: Apache-2.0 */
/* The stunt guest: looks like a QEMU from outside. See options.c for what it can be told. */
#include "command.h"
#include "qmp_server.h"

#include <signal.h>
#include <stdio.h>

/* Before any thread: signals that end the stunt are read by the server, a broken pipe is an error like others. */
static void set_signals(void) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The server listens last: a client that gets through finds the guest as it should be. */
static int run(const struct options *options, struct machine *machine, struct error *err) {
    if (machine_open(machine, options, err) < 0) {
        return -1;
    }
    struct qmp_handler handler = {
        .answer = command_answer, .over = command_over, .context = machine, .greeting = COMMAND_GREETING
    };
    struct qmp_server *server = qmp_server_new(options->qmp, &handler, err);
    if (server == NULL) {
        return -1;
    }
    machine->server = server;
    return qmp_server_run(server, err);
}

int main(int argc, char **argv) {
    static struct options options;
    static struct machine machine;
    struct error err = { 0 };
    int parsed = options_parse(&options, argc, argv, &err);
    if (parsed > 0) {
        return 0;
    }
    set_signals();
    if (parsed < 0 || run(&options, &machine, &err) < 0) {
        fprintf(stderr, "stunt: %s\n", err.desc);
    }
    machine_close(&machine);
    return error_is_set(&err) ? 1 : 0;
}
