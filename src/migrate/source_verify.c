/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule that all of it stands on, looked at instead of believed: once the VMM holds its device state back nobody
 * writes the guest's RAM any more. The last scan lies before the device state is written, and what is written between
 * the two would be missing at the destination. So when the device state has been written there is one more scan, while
 * the destination loads: it costs less than that, and anything that it finds ends the attempt while the guest can still
 * run on here.
 *
 * What a scan finds need not have been written: of private memory it is also what was touched for the first time, and
 * QEMU's own migration reads what nobody has touched yet. So what was found is read, and compared with what was sent.
 */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/zero.h"

#define RUNS_TOLD 8
#define READ_PAGES 32u

struct late {
    struct source *source;
    uint64_t touched, pages; /* found by the scan; of these other than what was sent */
    json_t *runs;            /* the first few */
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

static void tell(struct late *l, uint16_t block, uint64_t first, uint64_t end) {
    const struct vmm_ram *ram = &l->source->vmm->ram[block];
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

/* No pass follows: `written` is free for what is found here. */
static void found(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct late *l = opaque;
    bits_set_range(l->source->sender.ram.blocks[block].written, first, end);
    l->touched += end - first;
}

/* Whether the destination has something else. A page that was sent and of which no digest was kept may be. */
static bool is_other(const struct source *s, const struct ram_block *b, uint64_t page, const uint8_t *bytes) {
    struct page_digest sent = ram_digest(b, page);
    if (digest_known(sent)) {
        return !digest_equal(digest_page(&s->sender.key, bytes), sent);
    }
    return bits_test(b->sent, page) || !is_zero(bytes, RAM_PAGE_SIZE);
}

static int compare_run(struct late *l, uint16_t block, uint64_t first, uint64_t end, struct error *err) {
    const struct ram_block *b = &l->source->sender.ram.blocks[block];
    CLEANUP_FREE uint8_t *bytes = malloc((size_t)READ_PAGES * RAM_PAGE_SIZE);
    if (bytes == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to compare pages");
    }
    for (uint64_t at = first, n; at < end; at += n) {
        n = end - at < READ_PAGES ? end - at : READ_PAGES;
        if (ram_read(b, at, n, bytes, err) < 0) {
            return -1;
        }
        for (uint64_t i = 0, others = 0; i < n; i += others + 1, others = 0) {
            while (i + others < n && is_other(l->source, b, at + i + others, bytes + (i + others) * RAM_PAGE_SIZE)) {
                others++;
            }
            if (others > 0) {
                tell(l, block, at + i, at + i + others);
            }
        }
    }
    return 0;
}

/* Reading goes by the last look at what is there (ram/backing.h). */
static int look_anew(struct ram_block *b, struct error *err) {
    size_t words = bits_words(b->pages);
    CLEANUP_FREE uint64_t *maps = calloc(2 * words, sizeof(*maps));
    return maps != NULL ? ram_look(b, maps, maps + words, err)
                        : error_errno(err, ERROR_SYSTEM, "no memory to look at %s", b->id);
}

static int compare_touched(struct late *l, struct error *err) {
    for (uint16_t i = 0; i < l->source->sender.ram.count; i++) {
        struct ram_block *b = &l->source->sender.ram.blocks[i];
        uint64_t end, at = bits_next_set(b->written, 0, b->pages);
        if (at < b->pages && look_anew(b, err) < 0) {
            return -1;
        }
        for (; at < b->pages; at = bits_next_set(b->written, end, b->pages)) {
            end = bits_next_clear(b->written, at, b->pages);
            if (compare_run(l, i, at, end, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

int source_verify(struct source *s, struct error *err) {
    struct late late = { .source = s, .runs = json_array() };
    int rc = view_scan(&s->sender.view, found, &late, err);
    if (rc == 0 && late.touched > 0) {
        rc = compare_touched(&late, err);
    }
    log_debug("looked for late writes for %.2f ms: %llu pages were touched", (double)s->sender.view.scan_time / 1e6,
              (unsigned long long)late.touched);
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
