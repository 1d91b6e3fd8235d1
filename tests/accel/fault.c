/* SPDX-License-Identifier: Apache-2.0 */
#include "card.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[EMULATED_FAULTS] = { "hang", "reset", "garbage", "error", "oversize" };

bool fault_add(struct fault *plan, struct fault fault) {
    for (unsigned i = 0; i < MAX_FAULTS; i++) {
        if (plan[i].count == 0) {
            plan[i] = fault;
            return true;
        }
    }
    return false;
}

bool fault_parse(struct fault *plan, const char *text) {
    const char *at = strchr(text, '@');
    if (at == NULL) {
        return false;
    }
    for (unsigned kind = 0; kind < EMULATED_FAULTS; kind++) {
        if (strlen(names[kind]) != (size_t)(at - text) || strncmp(names[kind], text, (size_t)(at - text)) != 0) {
            continue;
        }
        char *end;
        struct fault f = { .kind = (enum emulated_fault)kind, .from = strtoull(at + 1, &end, 10), .count = 1 };
        if (*end == ':') {
            f.count = strtoull(end + 1, &end, 10);
        }
        return *end == '\0' && f.count > 0 && fault_add(plan, f);
    }
    return false;
}

bool fault_hits(const struct fault *plan, enum emulated_fault kind, uint64_t job) {
    for (unsigned i = 0; i < MAX_FAULTS; i++) {
        if (plan[i].count > 0 && plan[i].kind == kind && job >= plan[i].from && job - plan[i].from < plan[i].count) {
            return true;
        }
    }
    return false;
}
