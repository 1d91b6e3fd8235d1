/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration that is not made: both ends are looked at and compared, and everything that would stop it is told, not
 * only the first. Nothing is touched at either end: no capability is set, no file emptied, and the receiver waits on as
 * before. On the wire it is a connection of ROLE_CHECK with one request and one answer (docs/protocol.md, "Checking").
 */
#ifndef GODWIT_MIGRATE_CHECK_H
#define GODWIT_MIGRATE_CHECK_H

#include "base/error.h"
#include "params/params.h"
#include "vmm/findings.h"
#include "vmm/vmm.h"
#include "wire/address.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct check_config {
    struct vmm *vmm; /* the source's, opened, not yet inspected; not owned */
    struct address to;
    int64_t wait; /* ns for which a receiver that does not listen yet is waited for */
    struct params params;
};

/* What each end has found. Findings of the destination are as it tells them: it is not trusted, they are only shown. */
struct check_result {
    struct findings source, destination;
    bool chosen; /* how the device state would go is known */
    struct vmm_choice choice;
    json_t *params; /* what would be agreed; NULL: it did not come to that */
};

/* Source side. Everything that is wrong is a finding, a receiver that cannot be reached included. */
void check_ask(const struct check_config *config, struct check_result *result);
void check_result_release(struct check_result *result);

/* Destination side: the answer to a request with these arguments, for a VMM that has been inspected. A new reference.
 * `own`: what this side's user has set. */
json_t *check_answer(struct vmm *vmm, const struct params *own, json_t *args);

#endif
