/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration streams made by hand: one that goes in, and beside it what is to come out of the filter. Every function
 * adds to both, but for goes(). Names of sections, commands and flags are QEMU's.
 */
#ifndef GODWIT_TESTS_UNIT_MADE_STREAM_H
#define GODWIT_TESTS_UNIT_MADE_STREAM_H

#include "support.h"

#define PAGE 4096u
#define ROOM ((size_t)1 << 20)

enum { ZERO = 0x02, MEM_SIZE = 0x04, FULL_PAGE = 0x08, EOS = 0x10, CONTINUE = 0x20, XBZRLE = 0x40, HOOK = 0x80 };
enum { COMPRESS = 0x100, FLUSH = 0x200 };
enum { START = 1, PART, END, FULL };
enum { RAM = 2, ODD = 3 }; /* ids of sections */

struct bytes {
    uint8_t data[ROOM];
    size_t size;
};

extern struct bytes in, want;

/* To one of them: bytes, `size` bytes of a number, a text with its length before it. */
void add(struct bytes *b, const void *data, size_t size);
void add_int(struct bytes *b, size_t size, uint64_t v);
void add_text(struct bytes *b, const char *text);

void both(size_t size, uint64_t v);
void both_text(const char *text);

/* Empties both, and writes magic and configuration. */
void begin(bool ignore_shared);
void subsection(const char *name, uint32_t version, uint32_t value);
/* `name` is for START and FULL. */
void header(unsigned type, uint32_t id, const char *name);
void footer(uint32_t id);
void records_end(uint32_t id);
/* A section that the filter does not know and the model does. */
void odd(unsigned type);
void command(unsigned number, unsigned size);
/* START of RAM: the blocks vga.vram, pc.bios and 0000:00:03.0/rom. */
void list(bool addresses);
/* What comes behind RAM. */
void devices(void);

/* One record of a page whose content is made of its number and kind; a name of NULL is CONTINUE. */
void put_page(struct bytes *b, const char *name, uint64_t at, unsigned kind);
void stays(const char *name, uint64_t at, unsigned kind);
void goes(const char *name, uint64_t at, unsigned kind);

#endif
