/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/removal.h"

#include "base/bits.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

int removal_watch(struct removal *r, const struct ram *ram, struct error *err) {
    r->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    for (size_t i = 0; r->fd >= 0 && i < ram->count; i++) {
        const struct backing *b = ram->blocks[i].backing;
        if (b->ops->watch(b, r->fd, err) < 0) {
            return -1;
        }
    }
    return r->fd >= 0 ? 0 : error_errno(err, ERROR_SYSTEM, "inotify");
}

/* Whether anything was said since the last look. An overflow of the queue is a word too. */
static bool was_told(const struct removal *r) {
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool told = false;
    ssize_t n;
    while ((n = read(r->fd, events, sizeof(events))) > 0 || (n < 0 && errno == EINTR)) {
        told = true;
    }
    return told;
}

void removal_mark_hole(struct ram_block *b, uint64_t first, uint64_t end) {
    for (uint64_t page = bits_next_set(b->sent, first, end); page < end; page = bits_next_set(b->sent, page + 1, end)) {
        bits_set(b->dirty, page);
    }
}

/* Word by word: a block of fragmented memory costs no more than any other. */
static int mark_block(struct ram_block *b, struct error *err) {
    size_t words = bits_words(b->pages);
    CLEANUP_FREE uint64_t *maps = calloc(2 * words, sizeof(*maps));
    if (maps == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the holes of %s", b->id);
    }
    const uint64_t *populated = maps, *gone = maps + words;
    if (ram_look(b, maps, maps + words, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < words; i++) {
        b->dirty[i] |= (b->sent[i] & ~populated[i]) | gone[i];
    }
    return 0;
}

int removal_mark(struct removal *r, struct ram *ram, struct error *err) {
    r->told = r->fd >= 0 && was_told(r);
    for (size_t i = 0; i < ram->count; i++) {
        bool looks = r->told || ram->blocks[i].backing->silent;
        if (looks && mark_block(&ram->blocks[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

void removal_close(struct removal *r) {
    if (r->fd >= 0) {
        close(r->fd);
        r->fd = -1;
    }
}
