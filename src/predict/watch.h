/* SPDX-License-Identifier: Apache-2.0 */
/* Watches a running guest from outside for some seconds, and leaves nothing in it. */
#ifndef GODWIT_PREDICT_WATCH_H
#define GODWIT_PREDICT_WATCH_H

#include "base/error.h"
#include "params/params.h"
#include "policy/plan.h"
#include "predict/content.h"
#include "predict/trace.h"
#include "vmm/vmm.h"

#include <stdbool.h>
#include <stdint.h>

struct watch_config {
    struct vmm *vmm; /* inspected */
    const struct params *params;
    int64_t time;  /* ns */
    int signal_fd; /* readable: somebody wants it to end */
    bool progress; /* a line on stderr */
};

struct watch {
    uint64_t ram; /* bytes */
    struct trace trace;
    uint8_t *kinds;                          /* enum sim_content of each page of the sample; owned */
    uint64_t holes, zeros;                   /* of the sample */
    struct content all, dirty;               /* what memory is made of, and what the guest writes */
    double unchanged, changes, change_bytes; /* parts as struct sim_guest has them, and what a change takes */
    double gather_ns;                        /* CPU time to read a byte, look for zeros and make digests */
    double dirty_rate;                       /* bytes/s, each page once in 50 ms or so */
    int64_t attach, scan;                    /* ns that it took to attach, and a scan does */
    int64_t answer;                          /* ns that the VMM takes to answer */
    bool can_throttle;
    double budget;    /* CPUs, as cpu-budget has it; 0: none */
    struct plan plan; /* what this host has for a migration now */
};

/* -1 also when it was told to end: then nothing of the guest is changed either. The caller frees in both cases. */
int watch_guest(const struct watch_config *config, struct watch *w, struct error *err);
void watch_free(struct watch *w);

#endif
