/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory as it arrives: the VMM's RAM files, the threads that fill them, and what of it the source is told.
 */
#ifndef GODWIT_MIGRATE_DESTINATION_RAM_H
#define GODWIT_MIGRATE_DESTINATION_RAM_H

#include "base/error.h"
#include "host/pace.h"
#include "loop/loop.h"
#include "migrate/caller.h"
#include "migrate/devices.h"
#include "migrate/load_report.h"
#include "params/params.h"
#include "ram/block.h"
#include "ram/digest.h"
#include "ram/receive.h"
#include "vmm/vmm.h"

#include <stdatomic.h>
#include <stdint.h>

struct pin;

struct destination_ram {
    struct loop *loop;
    struct caller *caller;
    struct ram ram;
    struct digest_key key;
    struct cpu_pace pace; /* follows cpu-budget */
    struct devices devices;
    struct ram_receive *receive; /* NULL until destination_ram_open() */
    struct pin *pin;             /* NULL: none */
    atomic_bool pinned;          /* what is placed may rely on it */
    struct loop_watch watch;
    struct load_report load;
};

/* `budget`: cpu-budget. Nothing is opened. */
void destination_ram_init(struct destination_ram *r, struct loop *loop, struct caller *caller, int64_t budget);
/* All channels of the caller are there: empties the VMM's RAM files and begins to fill them. `key`: the text that the
 * source sends for its digests. */
int destination_ram_open(struct destination_ram *r, const struct vmm *vmm, const struct params *params, const char *key,
                         struct error *err);
/* Waits, in the loop, until everything of the pass is in place, or the source was told what is not. */
int destination_ram_await(struct destination_ram *r, json_int_t pass, struct error *err);
/* Everything is in place for good: the VMM is let alone. */
void destination_ram_placed(struct destination_ram *r);
/* The guest stands still soon: every wait is the guest's, and what receiving costs is of no use to the source. */
void destination_ram_hurry(struct destination_ram *r);
/* Why memory does not arrive any more, when that is not that the connection broke: a cause, where other failures may be
 * its symptoms. Fills `err` anew; false when there is none. */
bool destination_ram_failure(struct destination_ram *r, struct error *err);
/* Tells nobody of anything any more and ends the threads; the caller's channels were broken before. Safe when it was
 * never opened, not before init. */
void destination_ram_close(struct destination_ram *r);

#endif
