/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the VMM would write into its device state and that our own passes carry, such as video memory: it need
 * not go twice. Why leaving it out is safe: docs/correctness.md.
 */
#include "migrate/source.h"

#include "base/log.h"

/* Whether our passes carry the block that the VMM calls so, with what it holds when the guest stands still. Guest
 * memory is not meant, which the VMM leaves out by itself. */
static bool is_carried(void *opaque, const char *block) {
    (void)opaque;
    (void)block;
    return false;
}

/* Whether is_carried() is true of any block: if not, the device state is none of our business. */
static bool carries_any(const struct source *s) {
    (void)s;
    return false;
}

int source_open_filter(struct source *s, struct vmm_filter **filter, struct error *err) {
    *filter = NULL;
    if (!carries_any(s)) {
        return 0;
    }
    const struct vmm_carried carried = { .is_carried = is_carried, .opaque = s };
    return s->vmm->ops->filter(s->vmm, &carried, filter, err);
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
