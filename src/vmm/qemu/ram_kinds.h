/* SPDX-License-Identifier: Apache-2.0 */
/* How a back end of guest RAM is taken, by its kind; for ram.c. All fill in a block that has its id and size. -1 with
 * ERROR_REFUSED: it cannot be moved, and why. */
#ifndef GODWIT_VMM_QEMU_RAM_KINDS_H
#define GODWIT_VMM_QEMU_RAM_KINDS_H

#include "vmm/qemu/internal.h"
#include "vmm/qemu/look.h"

#define RAM_SMALL_PAGE 4096u /* bytes */

/* A named file that is mapped shared: found by its name. */
int ram_take_named(struct qemu *q, struct vmm_ram *ram, const char *mem_path, const struct mapping *maps, size_t count,
                   struct error *err);
/* Anything else: found by its address. */
int ram_take_found(struct qemu *q, struct vmm_ram *ram, const struct look *l, struct error *err);

/* Memory of the process, at the address of `b`: QEMU's own blocks too. */
int ram_take_memory(struct qemu *q, struct vmm_ram *ram, const struct look *l, const struct ramblock *b,
                    struct error *err);
/* A file that is mapped shared, once one of its mappings is known: takes all its mappings, sees that they cover the
 * block, and opens it. */
int ram_take_file(struct qemu *q, struct vmm_ram *ram, const struct mapping *first, const struct mapping *maps,
                  size_t count, struct error *err);
/* Whether another process maps the file of a block too: refused. Looks at every process. */
int ram_check_other_mapper(struct qemu *q, const struct vmm_ram *ram, struct error *err);
/* Whether the mappings of the file are those that were found at first. */
bool ram_has_same_ranges(const struct vmm_ram *ram, const struct mapping *maps, size_t count);

/* Bytes of a page of the file system behind a descriptor: of hugetlbfs its own, of others 4096. */
int ram_page_size(struct vmm_ram *ram, int fd, struct error *err);

#endif
