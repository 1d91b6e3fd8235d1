/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a migration goes on, how much the guest is held back for it, and when the guest is stopped: a pure function
 * from measurements to a decision (rows B1, C6), so that it is tested on recorded and invented traces without a guest,
 * and the events of a run can be put through it again.
 *
 * Policies:
 *   none     never holds the guest back
 *   stepped  QEMU's auto-converge: throttle-trigger-threshold, cpu-throttle-initial, cpu-throttle-increment,
 *            max-cpu-throttle, at the end of a pass
 *   staged   row C6 to the letter
 *   rate     a closed loop on the rate at which the guest writes, also within a pass
 *
 * Bytes are bytes of guest memory, except where a name says wire.
 */
#ifndef GODWIT_MIGRATE_CONVERGE_H
#define GODWIT_MIGRATE_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

enum converge_policy { CONVERGE_NONE, CONVERGE_STEPPED, CONVERGE_STAGED, CONVERGE_RATE };

/* What to do when completion-timeout or progress-timeout is over. */
enum converge_timeout { CONVERGE_TIMEOUT_ABORT, CONVERGE_TIMEOUT_FORCE, CONVERGE_TIMEOUT_POSTCOPY };

/* Parameters; all of them may change between two steps. */
struct converge_config {
    enum converge_policy policy;
    unsigned trigger_threshold, initial, increment, max; /* percent, as QEMU's; max <= 99 */
    int64_t downtime_limit;                              /* ns */
    int64_t completion_timeout, progress_timeout;        /* ns; 0: none */
    enum converge_timeout timeout_action;
    bool force; /* the operator takes the offer: switch over now */
};

/* One sample. Between passes (`pass_ended`) each is a scan; within a pass there may be more of them. */
struct converge_input {
    int64_t now;        /* ns, monotonic */
    int64_t started;    /* of the migration, same clock */
    uint64_t ram;       /* of the guest */
    uint64_t remaining; /* written and not yet sent */

    double wire_rate; /* bytes/s that the link carries, measured of late; 0: not known yet */
    double ratio;     /* bytes on the wire for each byte of memory, of late; more than 0 */

    double dirty_rate; /* bytes/s of memory that became dirty, over `dirty_interval`; negative: no new sample */
    int64_t dirty_interval;

    unsigned pass;         /* from 1, which sends everything */
    bool pass_ended;       /* the pass is over and the scan behind it is done */
    uint64_t pass_sent;    /* by the pass that ended */
    uint64_t pass_dirtied; /* during it */
    int64_t pass_time;     /* ns */

    unsigned throttle; /* percent in force since the last decision; 0 also when it can't be had */
    bool can_throttle;
    int64_t overhead; /* ns that the guest will stand still besides the sending of RAM: stop, scan, device state, run */
};

enum converge_action {
    CONVERGE_GO_ON,
    CONVERGE_STOP,     /* it fits into downtime-limit */
    CONVERGE_FORCE,    /* it does not, and is wanted all the same */
    CONVERGE_POSTCOPY, /* asked for by timeout-action */
    CONVERGE_GIVE_UP,
};

struct converge_decision {
    enum converge_action action;
    unsigned throttle;  /* percent, from now on */
    bool offer_force;   /* the policy has done what it can: the operator may force the switchover (row C6) */
    int64_t downtime;   /* forecast for a stop now, ns */
    const char *reason; /* static text, for events and messages */
};

/* What the next step continues from. Begins as zeros. */
struct converge_state {
    unsigned throttle;    /* of the last decision */
    unsigned high_passes; /* stepped: passes in a row above the threshold */
    int64_t least_at;     /* progress: when ... */
    uint64_t least;       /* ... remaining was less than ever before at the end of a pass */
    int64_t phase_since;  /* staged: since when its phase lasts */
    int phase;
    double previous_ratio;   /* staged: of the formula */
    uint64_t previous_dirty; /* staged: of the pass before */
    double dirty_rate;       /* rate: unthrottled, as estimated */
    bool offered;
    /* add what is needed */
};

void converge_step(const struct converge_config *config, const struct converge_input *in, struct converge_state *state,
                   struct converge_decision *decision);

/* How long the guest would stand still if it were stopped now, ns: what remains at the present rate and ratio, and the
 * overhead. INT64_MAX when nothing is known of the link. */
int64_t converge_downtime(const struct converge_input *in);

const char *converge_action_name(enum converge_action action);

#endif
