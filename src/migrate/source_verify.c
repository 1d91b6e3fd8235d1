/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule that all of it stands on, looked at instead of believed: once the VMM holds its device state back nobody
 * writes the guest's RAM any more. The last scan lies before the device state is written, and what is written between
 * the two would be missing at the destination. So when the device state has been written there is one more scan, while
 * the destination loads: it costs less than that, and anything that it finds ends the attempt while the guest can still
 * run on here.
 */
#include "migrate/source.h"

#include "base/log.h"

#define RUNS_TOLD 8

struct late {
    const struct vmm *vmm;
    uint64_t pages;
    json_t *runs; /* the first few */
    char text[160];
};

/* Where the process has a page of a block mapped; 0: nowhere. */
static uint64_t address_of(const struct vmm_ram *ram, uint64_t page) {
    uint64_t offset = page * RAM_PAGE_SIZE;
    for (size_t i = 0; i < ram->range_count; i++) {
        const struct vmm_ram_range *r = &ram->ranges[i];
        if (offset >= r->offset && offset - r->offset < r->end - r->start) {
            return r->start + (offset - r->offset);
        }
    }
    return 0;
}

static void found(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct late *l = opaque;
    const struct vmm_ram *ram = &l->vmm->ram[block];
    uint64_t address = address_of(ram, first);
    if (l->pages == 0) {
        snprintf(l->text, sizeof(l->text), "page %llu of RAM %.100s, address 0x%llx", (unsigned long long)first,
                 ram->id, (unsigned long long)address);
    }
    if (json_array_size(l->runs) < RUNS_TOLD) {
        json_array_append_new(l->runs, json_pack("{s:s, s:I, s:I, s:I}", "block", ram->id, "first", (json_int_t)first,
                                                 "pages", (json_int_t)(end - first), "address", (json_int_t)address));
    }
    l->pages += end - first;
}

int source_verify(struct source *s, struct error *err) {
    struct late late = { .vmm = s->vmm, .runs = json_array() };
    int rc = view_scan(&s->sender.view, found, &late, err);
    log_debug("looked for late writes for %.2f ms", (double)s->sender.view.scan_time / 1e6);
    if (rc == 0 && late.pages > 0) {
        events_emit(&s->events, "written-late",
                    json_pack("{s:I, s:O}", "pages", (json_int_t)late.pages, "runs", late.runs));
        rc = error_set(err, ERROR_VMM,
                       "%llu pages of the guest's RAM were written while it stood still, behind the last look at them "
                       "(%s): a device of this VMM writes although it is stopped",
                       (unsigned long long)late.pages, late.text);
    }
    json_decref(late.runs);
    return rc;
}
