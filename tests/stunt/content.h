/* SPDX-License-Identifier: Apache-2.0 */
/* What guest memory looks like: pages made from a number, so that the same number always makes the same page. */
#ifndef STUNT_CONTENT_H
#define STUNT_CONTENT_H

#include <stdint.h>

#define STUNT_PAGE UINT64_C(4096)

enum content { CONTENT_TEXT, CONTENT_POINTER, CONTENT_RANDOM, CONTENT_ZERO, CONTENT_COUNT };

/* Percentages that add up to 100, in the order of enum content. */
struct content_mix {
    uint64_t percent[CONTENT_COUNT];
};

/* The kind of the page that `number` stands for. */
enum content content_pick(const struct content_mix *mix, uint64_t number);
/* Fills one page of STUNT_PAGE bytes, aligned to 8. */
void content_write(void *page, enum content kind, uint64_t number);

#endif
