/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a process's id its own.
 *
 * What takes a process id (process_vm_writev) reaches whoever has the id at the call. An id is free for others when its
 * process has ended and was waited for; and of a process that is traced only its tracer can be told that it has ended,
 * before anybody else. So a thread of ours traces the process's first thread and never takes that word: as long as it
 * lives the id is that process's, dead or alive. The process runs on and is never stopped for it.
 *
 * While it is held: signals to that thread that it does not block wait for us to pass them on, some 20 ms; a debugger
 * cannot attach to it; whoever waits for the process's end learns of it when we let go. When our process dies the
 * kernel lets go.
 */
#ifndef GODWIT_REMOTE_PIN_H
#define GODWIT_REMOTE_PIN_H

#include "base/error.h"

#include <sys/types.h>

struct pin;

/* NULL on error: it may not be traced, or somebody traces it already. Whether the id was that process's until now is
 * the caller's to see, behind this call. */
struct pin *pin_open(pid_t pid, struct error *err);
/* Lets go. NULL is allowed. */
void pin_close(struct pin *p);

#endif
