/* SPDX-License-Identifier: Apache-2.0 */
#include "track/touched.h"

#include "base/bits.h"
#include "host/pagemap.h"

#include <string.h>

#define ENTRIES 1024u

static void note(struct touched *t, uint64_t i, uint64_t entry) {
    if ((entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) == 0) {
        return;
    }
    bits_set(t->there, i);
    if ((entry & PAGEMAP_UFFD_WP) == 0) {
        bits_set(t->open, i);
    }
}

/* An entry stands for a small page, whatever the page is: of a huge one the first says it all. */
int touched_look(int pagemap, const struct tracker_range *range, uint64_t from, uint64_t to, struct touched *touched,
                 struct error *err) {
    uint64_t entries[ENTRIES];
    size_t at_once = range->page_size == PAGEMAP_PAGE ? ENTRIES : 1;
    memset(touched, 0, sizeof(*touched));
    for (uint64_t at = from; at < to;) {
        size_t n = to - at < at_once ? (size_t)(to - at) : at_once;
        if (pagemap_read(pagemap, tracker_address(range, at), n, entries, err) < 0) {
            return -1;
        }
        for (size_t i = 0; i < n; i++) {
            note(touched, at - from + i, entries[i]);
        }
        at += n;
    }
    return 0;
}
