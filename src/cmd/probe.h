/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_CMD_PROBE_H
#define GODWIT_CMD_PROBE_H

/* godwit probe: what this host offers to a migration. Returns the exit status. */
int cmd_probe(int argc, char **argv);

#endif
