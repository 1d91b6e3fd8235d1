/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the VMM would write into its device state and that our own passes carry, such as video memory: it need
 * not go twice. Why leaving it out is safe: docs/correctness.md.
 */
#include "migrate/source.h"

#include "base/log.h"

/* Whether our passes carry anything that the VMM would write: if not, the device state is none of our business. */
static bool carries_any(const struct vmm *vmm) {
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (!vmm->ram[i].skipped) {
            return true;
        }
    }
    return false;
}

/* On the relay's thread blocks are looked up in vmm->ram, which does not change any more once the two sides have agreed
 * on it. */
int source_open_filter(struct source *s, struct vmm_filter **filter, struct error *err) {
    const struct vmm_carried carried = { .is_carried = vmm_carries, .opaque = s->vmm };
    *filter = NULL;
    return carries_any(s->vmm) ? s->vmm->ops->filter(s->vmm, &carried, filter, err) : 0;
}

void source_tell_filter(struct source *s) {
    const struct vmm_filter *filter = s->switchover.relay.filter;
    if (filter == NULL) {
        return;
    }
    const char *why = atomic_load(&filter->counts.why);
    uint64_t in = atomic_load(&filter->counts.in), out = atomic_load(&filter->counts.out);
    uint64_t pages = atomic_load(&filter->counts.pages);
    log_debug("of %llu bytes of device state %llu went on; %llu pages were left out%s%s", (unsigned long long)in,
              (unsigned long long)out, (unsigned long long)pages,
              why != NULL ? ", and none any more since it had " : "", why != NULL ? why : "");
    json_t *fields =
        json_pack("{s:I, s:I, s:I}", "in", (json_int_t)in, "out", (json_int_t)out, "pages", (json_int_t)pages);
    if (why != NULL) {
        json_object_set_new(fields, "why", json_string(why));
    }
    events_emit(&s->events, "filtered", fields);
}
