/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one connection of QEMU's migration, cut anywhere, into items (relay/item.h).
 *
 *   feed ──► unit by unit ──► items     "unit": what must be seen whole to decide on it, 320 bytes at most
 *
 * The stream is asked and nothing else: what is sent depends on QEMU's version, on the machine type and on
 * capabilities. At the first thing that is not known here the stream is opaque from there on, for good: bytes as they
 * are, in order. So whatever comes, the items' bytes are the stream's. What is held back between two feeds is a unit or
 * a page.
 *
 * Only the main connection has pages. Those of multifd are known by their magic and opaque; so is one with no magic.
 */
#ifndef GODWIT_RELAY_READER_H
#define GODWIT_RELAY_READER_H

#include "relay/item.h"

enum reader_kind {
    READER_UNKNOWN, /* too little has come */
    READER_MAIN,
    READER_MULTIFD,
    READER_OTHER, /* a postcopy preempt channel, one that is resumed, TLS, a stranger */
};

struct reader_counts {
    uint64_t bytes, pages, zeros, sections;
    const char *why; /* since when nothing is understood: what came; static; NULL: all is so far */
};

struct reader;

/* NULL when there is no memory. */
struct reader *reader_open(const struct item_sink *sink, struct error *err);
void reader_close(struct reader *r);
/* Takes the next `size` bytes and gives what is whole to the sink. -1: the sink failed, and the reader is done. */
int reader_feed(struct reader *r, const uint8_t *data, size_t size, struct error *err);
/* The stream has ended: gives what was held back, as bytes. */
int reader_finish(struct reader *r, struct error *err);

enum reader_kind reader_kind(const struct reader *r);
const struct reader_counts *reader_counts(const struct reader *r);
/* "main", "multifd", … */
const char *reader_kind_name(enum reader_kind kind);

#endif
