/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's RAM: files that are mapped shared, or memory of the stunt's own, for as long as it lives; filled once at
 * the start. */
#ifndef STUNT_RAM_H
#define STUNT_RAM_H

#include "base/error.h"
#include "content.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_MAX 16
#define RAM_ANONYMOUS "anonymous"

struct ram {
    char id[64];
    char path[4096];
    uint64_t size;      /* bytes, a multiple of page_size */
    uint64_t page_size; /* of the file: 4096, or that of its hugetlbfs */
    bool hugetlb;
    bool own; /* memory of the process, no file: its path is RAM_ANONYMOUS */
    int fd;   /* -1: none */
    uint8_t *map;
};

/* All RAM of the guest. Its 4 KiB pages are numbered through all blocks: "guest pages". */
struct memory {
    struct ram rams[RAM_MAX];
    size_t count;
    uint64_t pages;
};

/* Creates (or takes) the file and maps it; id, path and size are set before. With `read_only` it takes a file that is
 * there and never writes it. */
int ram_open(struct ram *ram, bool read_only, struct error *err);
/* Maps another file in its place, for reading only: what a hostile VMM may do at any time. */
int ram_swap(struct ram *ram, const char *path, struct error *err);
void ram_close(struct ram *ram);

int memory_open(struct memory *memory, bool read_only, struct error *err);
void memory_close(struct memory *memory);
/* The address of a guest page. */
uint8_t *memory_page(const struct memory *memory, uint64_t page);
/* The block of a guest page, and in *inside its number within that block. */
const struct ram *memory_block(const struct memory *memory, uint64_t page, uint64_t *inside);

/* Fills `percent` of the memory, spread evenly; the rest stays holes. From several threads. */
int memory_fill(const struct memory *memory, uint64_t percent, const struct content_mix *mix, uint64_t seed,
                struct error *err);

#endif
