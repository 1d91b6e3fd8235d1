/* SPDX-License-Identifier: Apache-2.0 */
#include "made_stream.h"

#include <endian.h>

struct bytes in, want;

void add(struct bytes *b, const void *data, size_t size) {
    assert_true(size <= ROOM - b->size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void add_int(struct bytes *b, size_t size, uint64_t v) {
    uint64_t be = htobe64(v << 8 * (8 - size));
    add(b, &be, size);
}

void add_text(struct bytes *b, const char *text) {
    add_int(b, 1, strlen(text));
    add(b, text, strlen(text));
}

/* The same into the input and into what is to come out of it. */
void both(size_t size, uint64_t v) {
    add_int(&in, size, v);
    add_int(&want, size, v);
}

void both_text(const char *text) {
    add_text(&in, text);
    add_text(&want, text);
}

void begin(bool ignore_shared) {
    in.size = want.size = 0;
    both(8, UINT64_C(0x5145564d00000003));
    both(1, 7);
    both(4, 2);
    both(2, 'p' << 8 | 'c');
    if (ignore_shared) {
        both(1, 5);
        both_text("configuration/capabilities");
        both(4, 1);
        both(4, 1);
        both_text("x-ignore-shared");
    }
    both(1, 5);
    both_text("configuration/uuid");
    both(4, 1);
    both(8, 1);
    both(8, 2);
}

void subsection(const char *name, uint32_t version, uint32_t value) {
    both(1, 5);
    both_text(name);
    both(4, version);
    both(4, value);
}

void header(unsigned type, uint32_t id, const char *name) {
    both(1, type);
    both(4, id);
    if (type == START || type == FULL) {
        both_text(name);
        both(4, 0);
        both(4, 4);
    }
}

void footer(uint32_t id) {
    both(1, 0x7e);
    both(4, id);
}

void records_end(uint32_t id) {
    both(8, EOS);
    footer(id);
}

void odd(unsigned type) {
    header(type, ODD, "odd");
    both(4, 6);
    both(6, 0xa1a2a3a4a5a6);
    footer(ODD);
}

void command(unsigned number, unsigned size) {
    both(1, 8);
    both(2, number);
    both(2, size);
    for (unsigned i = 0; i < size; i++) {
        both(1, i);
    }
}

static const char *const blocks[] = { "vga.vram", "pc.bios", "0000:00:03.0/rom" };

void list(bool addresses) {
    header(START, RAM, "ram");
    both(8, 3 * 16 * PAGE | MEM_SIZE);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        both_text(blocks[i]);
        both(8, 16 * PAGE);
        if (addresses) {
            both(8, 0xfd000000);
        }
    }
    records_end(RAM);
}

void put_page(struct bytes *b, const char *name, uint64_t at, unsigned kind) {
    uint8_t body[PAGE];
    uint64_t state = at + kind;
    random_fill(&state, body, sizeof(body));
    add_int(b, 8, at * PAGE | kind | (name == NULL ? CONTINUE : 0));
    if (name != NULL) {
        add_text(b, name);
    }
    switch (kind) {
    case ZERO:
        add_int(b, 1, 0);
        break;
    case FULL_PAGE:
        add(b, body, PAGE);
        break;
    case COMPRESS:
        add_int(b, 4, 700);
        add(b, body, 700);
        break;
    case XBZRLE:
        add_int(b, 1, 1);
        add_int(b, 2, 90);
        add(b, body, 90);
        break;
    default:
        break;
    }
}

void stays(const char *name, uint64_t at, unsigned kind) {
    put_page(&in, name, at, kind);
    put_page(&want, name, at, kind);
}

void goes(const char *name, uint64_t at, unsigned kind) {
    put_page(&in, name, at, kind);
}

void devices(void) {
    header(FULL, 9, "timer");
    for (unsigned i = 0; i < 40; i++) {
        both(8, UINT64_C(0x0200000000000008) * i); /* things that look like others */
    }
    footer(9);
    both(1, 0);
}
