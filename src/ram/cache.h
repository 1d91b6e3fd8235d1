/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last sent version of pages that are written again and again: what QEMU's XBZRLE cache is for.
 *
 * What is in the cache is what the destination holds, always: a page that leaves in full enters or is replaced, one
 * that becomes zero is dropped. Only pages that were sent before get in, for in the first pass every page is new. A
 * page that was of use lately is not put out by another: a working set larger than the cache keeps the part that fits,
 * where least-recently-used would keep none of it.
 *
 * Any thread; two threads never ask for the same page at the same time (a pass hands each page to one).
 */
#ifndef GODWIT_RAM_CACHE_H
#define GODWIT_RAM_CACHE_H

#include "ram/block.h"

#include <stddef.h>
#include <stdint.h>

/* A page has so many places. */
#define CACHE_WAYS 4
#define CACHE_SET_BYTES (CACHE_WAYS * (uint64_t)RAM_PAGE_SIZE)

struct cache;

/* `bytes` of page content, down to whole sets. NULL when that is less than one, or there is no memory: no cache. */
struct cache *cache_open(uint64_t bytes);
void cache_close(struct cache *c); /* NULL is allowed */
uint64_t cache_size(const struct cache *c);

/* Bytes of page content that are in it. */
uint64_t cache_held(const struct cache *c);
/* From now on no page gets in while so many bytes or more are held; what is in stays and is kept up to date. Less than
 * the size: the memory is wanted elsewhere, or (0) nothing is sent a second time. */
void cache_limit(struct cache *c, uint64_t bytes);

/* A page is about to be sent as `now` in `pass`. When the cache has the version before, writes the change from it to
 * `out` (codec/delta.h) and returns its size; 0 when it has not, or when the change does not fit into `capacity`.
 * Whatever it returns, `now` is the last sent version from here on, if the page is in the cache at all. */
size_t cache_change(struct cache *c, uint16_t block, uint64_t page, uint32_t pass, const uint8_t *now, uint8_t *out,
                    size_t capacity);
/* The destination holds something else of this page now. */
void cache_drop(struct cache *c, uint16_t block, uint64_t page);

#endif
