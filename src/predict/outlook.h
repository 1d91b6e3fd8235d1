/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration of a guest that was watched would come to under each throttle-policy: simulated from several places
 * of the trace, with links a little slower and faster than was said and with fewer CPUs, so that a figure has its least
 * and its most.
 */
#ifndef GODWIT_PREDICT_OUTLOOK_H
#define GODWIT_PREDICT_OUTLOOK_H

#include "base/error.h"
#include "policy/converge.h"
#include "predict/simulate.h"

#include <stdbool.h>
#include <stdint.h>

#define OUTLOOK_POLICIES 4 /* enum converge_policy */

struct outlook_question {
    struct sim_guest guest;     /* its costs are made by `price` */
    struct sim_setting setting; /* `offset`, wire_rate and the policy are each case's own */
    double wire_rate;           /* bytes/s */
    /* Fills the costs for a link of so many bytes/s and a part, up to 1, of the CPUs that seem to be there. */
    void (*price)(struct sim_guest *guest, double wire_rate, double cpus, void *opaque);
    void *opaque;
};

enum outlook_ends { OUTLOOK_NO, OUTLOOK_PERHAPS, OUTLOOK_YES };

struct outlook_range {
    double least, likely, most;
};

struct outlook {
    struct outlook_policy {
        enum outlook_ends ends;
        bool forced;                                /* in some case only by timeout-action */
        struct outlook_range total, downtime, lost; /* s; lost is of the guest's work, pause included */
        struct outlook_range wire, remaining;       /* bytes */
        unsigned throttle;                          /* percent, at most */
        const char *reason;                         /* of the likely case's end */
    } policies[OUTLOOK_POLICIES];
    int recommended; /* enum converge_policy; -1: none ends */
    /* What would help when none ends surely; 0: nothing that was tried. */
    enum converge_policy helped; /* the policy that it was tried with */
    int64_t downtime_limit;      /* ns that would do on this link */
    double link;                 /* bytes/s that would do with this downtime-limit */
};

/* Keeps a core busy for some seconds at most. Fails only without memory. */
int outlook_make(const struct outlook_question *q, struct outlook *o, struct error *err);

#endif
