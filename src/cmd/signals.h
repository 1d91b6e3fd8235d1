/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that ask for the end, as something to poll; those that would stop us while a guest needs us. */
#ifndef GODWIT_CMD_SIGNALS_H
#define GODWIT_CMD_SIGNALS_H

#include "base/error.h"

/* Blocks SIGINT, SIGTERM and SIGHUP in all threads that follow and ignores job control. Returns a descriptor that is
 * readable when one of them came, the caller's; -1 on error. */
int signals_catch(struct error *err);
/* They end the process again. */
void signals_release(void);

#endif
