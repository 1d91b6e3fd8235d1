/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the source four times a second what receiving costs here: on a fast link it is what the choice of codecs turns
 * on. */
#ifndef GODWIT_MIGRATE_LOAD_REPORT_H
#define GODWIT_MIGRATE_LOAD_REPORT_H

#include "loop/loop.h"
#include "ram/receive.h"
#include "wire/link.h"

#define LOAD_REPORT_RATES (2 + CODEC_COUNT)

struct load_report {
    struct loop *loop;
    struct loop_deadline next;
    struct link *link;
    struct ram_receive *receive;
    struct load_told {
        uint64_t bytes, ns;
    } told[LOAD_REPORT_RATES]; /* what it was told of */
};

/* From now on until load_report_stop(); `link` and `receive` stay valid for so long. */
void load_report_start(struct load_report *l, struct loop *loop, struct link *link, struct ram_receive *receive);
/* Safe when it was never started. */
void load_report_stop(struct load_report *l);

#endif
