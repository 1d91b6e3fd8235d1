/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a migration goes on, how much the guest is held back for it, and when the guest is stopped: a pure function
 * from measurements to a decision (rows B1, C6), so that it is tested on recorded and invented traces without a guest,
 * and the events of a run can be put through it again (converge_json.h).
 *
 * Policies, one file each:
 *   none     never holds the guest back
 *   stepped  QEMU's auto-converge: throttle-trigger-threshold, cpu-throttle-initial, cpu-throttle-increment,
 *            max-cpu-throttle, at the end of a pass
 *   staged   row C6
 *   rate     a closed loop on the rate at which the guest writes, also within a pass
 *
 * What all have in common is in converge.c: the stop, the timeouts, the operator's word.
 *
 * Bytes are bytes of guest memory, except where a name says wire.
 */
#ifndef GODWIT_POLICY_CONVERGE_H
#define GODWIT_POLICY_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

#define CONVERGE_MOST_THROTTLE 99u /* percent */

enum converge_policy { CONVERGE_NONE, CONVERGE_STEPPED, CONVERGE_STAGED, CONVERGE_RATE };

/* What to do when completion-timeout or progress-timeout is over. */
enum converge_timeout { CONVERGE_TIMEOUT_ABORT, CONVERGE_TIMEOUT_FORCE, CONVERGE_TIMEOUT_POSTCOPY };

/* Parameters; all of them may change between two steps. */
struct converge_config {
    enum converge_policy policy;
    unsigned trigger_threshold, initial, increment, max; /* percent, as QEMU's; max <= CONVERGE_MOST_THROTTLE */
    int64_t downtime_limit;                              /* ns */
    int64_t completion_timeout;                          /* ns since `started`; 0: none */
    int64_t progress_timeout; /* ns in which what remains at a pass's end must fall by 5 %; 0: none */
    enum converge_timeout timeout_action;
    bool force; /* the operator takes the offer: switch over now */
};

/* One sample. Between passes (`pass_ended`) each is a scan; within a pass there may be more of them: rate wants one
 * every 20 to 100 ms while it holds the guest back, and in passes before. */
struct converge_input {
    int64_t now;        /* ns, monotonic */
    int64_t started;    /* of the migration, same clock */
    uint64_t ram;       /* of the guest */
    uint64_t remaining; /* written and not yet sent, each page once; what waits because it is hot included */

    double wire_rate; /* bytes/s that the link carries, measured of late; 0: not known yet */
    double ratio;     /* bytes on the wire for each byte of memory, of late; more than 0 */

    /* bytes/s that the scan found written within the `dirty_interval` (ns) before `now`, each page once; negative: no
     * new sample. Best counted with the pages that waited to be sent already: without them it is less than the truth,
     * and rate throttles late and lets go early. */
    double dirty_rate;
    int64_t dirty_interval;

    unsigned pass;         /* from 1, which sends everything */
    bool pass_ended;       /* the pass is over and the scan behind it is done */
    uint64_t pass_sent;    /* by the pass that ended, without what waited */
    uint64_t pass_dirtied; /* during it, whether it waited to be sent already or not */
    int64_t pass_time;     /* ns */

    unsigned throttle; /* percent in force since the last decision; 0 also when it can't be had */
    bool can_throttle;
    int64_t overhead; /* ns that the guest will stand still besides the sending of RAM: stop, scan, device state, run */
};

enum converge_action {
    CONVERGE_GO_ON,
    CONVERGE_STOP,     /* it fits into downtime-limit; only where a pass ended */
    CONVERGE_FORCE,    /* it does not, and is wanted all the same */
    CONVERGE_POSTCOPY, /* asked for by timeout-action */
    CONVERGE_GIVE_UP,
};

struct converge_decision {
    enum converge_action action;
    unsigned throttle;  /* percent, from now on; 0 with every action but CONVERGE_GO_ON */
    bool offer_force;   /* the policy has done what it can: the operator may force the switchover (row C6) */
    int64_t downtime;   /* forecast for a stop now, ns */
    const char *reason; /* static text, for events and messages */
};

/* What the next step continues from: begins as zeros, and is of no interest to others. */
struct converge_state {
    enum converge_policy policy; /* that the rest belongs to */
    unsigned throttle;           /* of the last decision */
    bool offered;
    bool sending_known;
    int64_t last_sending;  /* forecast at the end of the pass before, without the overhead, ns; valid when known */
    unsigned extra_passes; /* made although the limit was met */
    uint32_t counted; /* the last pass whose end the policy was told: when a stop comes to nothing it is asked again */
    uint32_t noted;   /* the same, for the progress */
    bool least_known;
    uint64_t least;   /* progress: the least that remained at the end of a pass, ... */
    int64_t least_at; /* ... or of one of two that shrank, or since when the guest is held more than ever, and ... */
    unsigned since_least; /* ... how many passes have ended since */
    uint64_t previous;    /* what remained at the end of the pass before */
    unsigned shrunk;      /* passes in a row that left clearly less than the one before */
    unsigned most;        /* throttle, ever */

    struct converge_stepped_state {
        unsigned high;          /* periods in a row above the threshold */
        uint64_t sent, dirtied; /* in this period */
        int64_t time;
    } stepped;

    struct converge_staged_state {
        int phase;
        int64_t since;           /* when the phase began */
        bool low, low_spent;     /* the guest has less than 10 % of its time; it had its 3 s of that */
        int64_t low_since;       /* valid when low */
        double share;            /* of its time that the guest gets, by the formula */
        uint64_t previous_dirty; /* of the pass before; 0: none */
    } staged;

    struct converge_rate_state {
        bool holding, known;       /* the guest is held back; `free_rate` is known */
        double free_rate;          /* bytes/s that the guest would write if it were not held back */
        double sample_s;           /* length of the samples that free_rate was made of */
        double judged_rate;        /* free_rate when it was last decided to let the guest run */
        double long_s, long_bytes; /* the last pass in which the guest ran freely, and what it dirtied; 0: none */
        bool pass_held;            /* the guest was held back in a part of the running pass */
        uint64_t before;           /* what remained at the end of the pass before; 0: none */
        unsigned stalls, futile;   /* passes in a row that did not help: free ones, and at the most throttle */
        int64_t changed_at;        /* when the throttle was changed last */
        bool calm, alarmed;        /* the guest is found to write little, or more than it did ... */
        int64_t calm_since, alarmed_since; /* ... since then */
        const char *due;                   /* why it is to be held back once what remains falls no more; NULL: not so */
        int64_t due_since;
        double due_remaining;          /* then */
        bool lulled, burst_seen;       /* running freely: it is calm; it was not at some time */
        int64_t lulled_since;          /* since when it is as `lulled` says */
        double lull_s;                 /* how long it was calm between the last two bursts; 0: not known */
        int64_t calm_needed;           /* ns of calm before the guest is let go; 0: as at first */
        int64_t released_at;           /* when it was last let go; 0: never */
        double released_remaining;     /* bytes that remained then */
        int64_t retry_at, retry_after; /* holding back did not help: not again before then */
    } rate;
};

/* The decision after a sample. What is not finite or out of range in the input is taken for unknown. */
void converge_step(const struct converge_config *config, const struct converge_input *in, struct converge_state *state,
                   struct converge_decision *decision);

/* How long the guest would stand still if it were stopped now, ns: what remains at the present rate and ratio, and the
 * overhead. INT64_MAX when something remains and nothing is known of the link. */
int64_t converge_downtime(const struct converge_input *in);

/* "go-on", "stop", …; "none", "stepped", …; "abort", "force", …: static text. */
const char *converge_action_name(enum converge_action action);
const char *converge_policy_name(enum converge_policy policy);
const char *converge_timeout_name(enum converge_timeout timeout);

#endif
