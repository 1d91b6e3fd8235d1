/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory on its way: seen, dirty, sent, rejected. The main thread's. */
#ifndef GODWIT_MIGRATE_SENDER_H
#define GODWIT_MIGRATE_SENDER_H

#include "migrate/devices.h"
#include "migrate/rejections.h"
#include "ram/block.h"
#include "ram/digest.h"
#include "ram/send.h"
#include "view/view.h"

#include <stdint.h>

struct sender {
    struct ram ram;
    struct view view;
    struct digest_key key;
    struct ram_send *send; /* NULL: nothing is sent yet */
    struct devices devices;
    struct rejections rejections; /* what the destination could not place */
    int64_t scanned_at;           /* clock_now() of the last scan that was no sample */
    uint64_t dirty;               /* pages that are dirty and not yet sent, by the last scan or the end of a pass */
    struct pass_start {           /* of the running or last pass */
        uint64_t pages;           /* dirty, those that wait included */
        uint64_t waited;          /* of them, valid at its end: were not sent, for their segments are hot */
        uint64_t dirtied;         /* since its beginning, as of the last scan */
        uint64_t sent_pages, zeros, unchanged; /* by all passes before */
        int64_t at;
        uint64_t transferred, queued; /* bytes that the sockets had taken, and that the peer had not acknowledged */
    } pass;
};

#endif
