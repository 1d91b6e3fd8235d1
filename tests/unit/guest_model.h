/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration without a guest, for what decides about convergence: a guest that writes by a plan, a link with a rate,
 * passes and scans. RAM is cut into cells, and of each cell it is known what part of its pages is dirty: expected
 * values, so there is no chance in it and a minute takes milliseconds.
 */
#ifndef GODWIT_TESTS_UNIT_GUEST_MODEL_H
#define GODWIT_TESTS_UNIT_GUEST_MODEL_H

#include "policy/converge.h"

#include <stdio.h>

#define MODEL_CELLS 512
#define MODEL_RAM (UINT64_C(2) << 30)

enum model_shape { MODEL_UNIFORM, MODEL_ZIPF, MODEL_SWEEP, MODEL_GROWING };

struct model_guest {
    const char *name;
    enum model_shape shape;
    double set;        /* bytes that it writes to; of a growing set: at the start */
    double rate;       /* bytes/s when it runs freely, a page at a time */
    double on, off;    /* s that it writes, and that it does not; off 0: it always does */
    double growth;     /* bytes/s of the set */
    double unreached;  /* bytes/s that no throttle holds back: devices */
    double reached_at; /* the part of its share that it really gets when it is held back, 0: all of it */
};

struct model_config {
    struct converge_config converge;
    struct model_guest guest;
    double link;          /* bytes/s of memory */
    double changes;       /* the same from pass 3 on, where only what changed goes, known a pass later; 0: no other */
    double ratio;         /* bytes on the wire for each */
    int64_t sample;       /* ns between scans within a pass; 0: only where passes end */
    int64_t overhead;     /* ns */
    int64_t most;         /* ns after which it is ended */
    bool only_new;        /* dirty_rate leaves out pages that wait to be sent already */
    bool take_offer;      /* the operator forces the switchover as soon as it is offered */
    bool cannot_throttle; /* nothing to hold the guest back with */
    FILE *trace;          /* a line for each step as converge_json.h has it; NULL: none */
};

struct model_result {
    bool ended;
    enum converge_action action;
    double total;    /* s, with the downtime */
    double downtime; /* s */
    double lost;     /* s of the guest's work: held back, and downtime over its limit */
    unsigned passes, changes, most_throttle;
    double longest_low; /* s in a row with less than 10 % of its time */
};

struct model_result model_run(const struct model_config *config);

#endif
