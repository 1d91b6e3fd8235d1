/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the threads of another process wait for a CPU: what a guest suffers when its host has too little of it.
 * Host-wide pressure (PSI) would count our own threads' waiting too, which is no harm to anyone.
 */
#ifndef GODWIT_HOST_WAITING_H
#define GODWIT_HOST_WAITING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct waiting_thread {
    pid_t tid;
    uint64_t waited; /* ns, since the thread began */
};

/* All zero: nothing known yet. */
struct host_waiting {
    int64_t at; /* of the last sample */
    struct waiting_thread *threads;
    size_t count;
};

/* The largest part of the time since the last sample, in percent, that one thread of the process waited for a CPU;
 * negative when it can't be told, as in the first sample. `root` as in host/load.h; `now` is clock_now(). */
double host_waiting_sample(struct host_waiting *w, const char *root, pid_t pid, int64_t now);
void host_waiting_free(struct host_waiting *w);

#endif
