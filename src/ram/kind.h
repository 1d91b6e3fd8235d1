/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kind of content a page has, by a look at 64 of its bytes.
 *
 * Pages of a kind go into one unit for the codec: a batch that mixes words, pointers and noise shrinks less than three
 * that don't, and costs more (docs/architecture.md has the figures). A look may be wrong. Nothing depends on it but
 * which pages share a unit: what a unit is compressed with follows from what units of its kind gave (ram/choice.h).
 */
#ifndef GODWIT_RAM_KIND_H
#define GODWIT_RAM_KIND_H

#include <stddef.h>
#include <stdint.h>

enum page_kind {
    KIND_MIXED, /* nothing else, such as code; and every page while kinds are not told apart */
    KIND_TEXT,  /* nearly all bytes printable */
    KIND_WORDS, /* pointers, counters, tables: many bytes are 00 or ff */
    KIND_NOISE, /* compressed or encrypted: as many different bytes as chance would have */
    PAGE_KINDS
};

/* Of a page of RAM_PAGE_SIZE bytes. About 50 ns for a page that is in the cache. */
enum page_kind page_kind(const uint8_t *page);

/* Puts pages of a kind together, in place, each kind in the order in which its pages were: for who tries codecs on a
 * sample. -1 without memory: then they lie as before. */
int kind_sort(uint8_t *pages, size_t count);

#endif
