/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has of its own in private memory.
 *
 * Of anonymous memory that is what is in its page table, in memory or in swap, but for the page of zeros that the
 * kernel shows where somebody has read and nobody written (before Linux 6.7 that one cannot be told; it is read, and is
 * zeros). Of a file that is mapped privately it is the pages that were written: copies. The file's own pages, in the
 * page table or not, are the file's.
 *
 * A page that was write-protected and given back may leave a marker behind, which looks like a page in swap (memory
 * that has a file behind it: mm/memory.c, zap_install_uffd_wp_if_needed()). Of small pages the page map tells the two
 * apart. Of huge pages of hugetlbfs nothing does, and it may be a page on its way to another place: such a page is
 * unsure. It is read from the process, which is right either way, and is to be read again the next time.
 */
#ifndef GODWIT_RAM_POPULATION_H
#define GODWIT_RAM_POPULATION_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum population_kind { POPULATION_ANONYMOUS, POPULATION_COPIES, POPULATION_HUGE };

struct population {
    int pagemap; /* owned */
    enum population_kind kind;
    bool scan; /* PAGEMAP_SCAN is there: holes cost nothing, a call finds thousands of runs */
};

/* GODWIT_FAULT=no-pagemap-scan does without. */
int population_open(struct population *p, pid_t pid, enum population_kind kind, struct error *err);
void population_close(struct population *p);

/* Sets the bits, one a small page from `start` on, of what is there in [start, end), and in `unsure` (NULL: nobody
 * asks) of what may be a marker: there as well. Bits of what is not there are left as they are. Touches nothing.
 * Threads may call it at the same time. */
int population_find(const struct population *p, uint64_t start, uint64_t end, uint64_t *there, uint64_t *unsure,
                    struct error *err);

#endif
