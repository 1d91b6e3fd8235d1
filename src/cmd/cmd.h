/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands. Each gets argv from its own name on and returns the exit status of the contract:
 * 0 completed, 1 failed or cancelled (the guest runs where it ran), 2 wrong use, 3 in doubt; of a prediction 4: it
 * would not end. */
#ifndef GODWIT_CMD_CMD_H
#define GODWIT_CMD_CMD_H

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_IN_DOUBT = 3, EXIT_WILL_NOT_END = 4 };

int cmd_send(int argc, char **argv);
int cmd_receive(int argc, char **argv);
int cmd_relay(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_set(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_resolve(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_check(int argc, char **argv);

#endif
