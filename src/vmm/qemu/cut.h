/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cutting a stream of bytes: what stays goes on as it lies in the input, what does not is skipped.
 *
 *   input of one feed    ──────────────┬───────────────┬──────────────►
 *                        handed on     │ stays; not    │ at: the unit
 *                        or skipped    run  handed on  │ that is decided on
 *
 * A reader looks at a unit, which begins at the cut's position, as far as it must to decide on it: cut_look(). Then it
 * says what becomes of the unit and of its body. A unit that the input does not have whole is held until the next feed;
 * no byte of it has been handed on by then. So whatever a reader finds in a unit, it may still put something before it.
 *
 * A sink that fails ends it: nothing is handed on any more, and the first error stays.
 */
#ifndef GODWIT_VMM_QEMU_CUT_H
#define GODWIT_VMM_QEMU_CUT_H

#include "vmm/filter.h"

#define CUT_MOST 320 /* bytes of a unit that one may look at */

struct cut {
    const struct vmm_sink *sink;
    struct error *err;
    bool broken;
    const uint8_t *run, *at, *end;
    size_t held; /* bytes of the unit that came with earlier feeds */
    uint8_t hold[CUT_MOST];
    uint64_t out; /* bytes handed on, ever */
};

/* A feed: `data` stays the caller's and must stay there until cut_end(). */
void cut_begin(struct cut *c, const uint8_t *data, size_t size, const struct vmm_sink *sink, struct error *err);
/* Hands on what stays of the feed. 0, or -1 when a sink has failed or cut_fail() was called. */
int cut_end(struct cut *c);
/* Ends it for a reason of the reader's own, which it has put into the error of the feed. */
void cut_fail(struct cut *c);

/* The first `size` bytes of the unit, or NULL: they have not come yet, or it has broken. What is given lasts until the
 * next call of any other function. */
const uint8_t *cut_look(struct cut *c, size_t size);
/* The unit, of which exactly `size` bytes were looked at most, stays or is skipped. Then the next one begins. */
void cut_pass(struct cut *c, size_t size);
void cut_skip(struct cut *c, size_t size);
/* The same for bytes behind a unit that nobody has to look at: as many as there are, `size` at most; *taken is how
 * many. cut_skip_body() says where they lie until cut_end(). */
void cut_pass_body(struct cut *c, uint64_t size, size_t *taken);
const uint8_t *cut_skip_body(struct cut *c, uint64_t size, size_t *taken);
/* Puts something before the unit. */
void cut_insert(struct cut *c, const uint8_t *data, size_t size);
/* Everything that there is stays, the unit that is looked at too. */
void cut_pass_all(struct cut *c);

#endif
