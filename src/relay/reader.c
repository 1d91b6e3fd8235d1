/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/reader.h"

#include "relay/blocks.h"
#include "vmm/qemu/cut.h"
#include "vmm/qemu/stream_format.h"
#include "vmm/qemu/stream_head.h"

#include <stdlib.h>

#define MULTIFD_MAGIC 0x11223344u
#define SECTION_HEADER 6u /* kind, id, length of the name */

struct reader;
/* Reads one unit. false: not all of it has come. */
typedef bool step(struct reader *r);

struct reader {
    struct item_sink sink;
    struct cut cut; /* everything is skipped in it, and given to the sink instead: it has no sink of its own */
    step *next;
    enum reader_kind kind;
    struct reader_counts counts;
    struct { /* bytes behind a unit that nobody has to look at */
        uint64_t left;
        step *behind;
    } body;
    struct { /* whose content comes; `got` bytes of it lie in data */
        struct item item;
        size_t got;
        uint8_t data[PAGE_SIZE];
    } page;
    struct stream_head head;
    bool advised;      /* postcopy may come: the list of blocks tells page sizes */
    uint64_t unlisted; /* bytes of blocks that the list has yet to name */
    bool has_ram;      /* RAM has begun, and `id` is its section's */
    uint32_t id;
    enum kind section; /* of RAM, that is being read */
    struct blocks blocks;
    const struct listed_block *block; /* that the stream has named last; NULL before */
};

static step read_head, read_section, read_record, read_block, read_all;
static step read_body, read_content, read_page_size;

/* ---- giving items ---- */

static void give(struct reader *r, const struct item *i) {
    if (!r->cut.broken && r->sink.take(r->sink.opaque, i, r->cut.err) < 0) {
        cut_fail(&r->cut);
    }
}

static void give_bytes(struct reader *r, const uint8_t *data, size_t size) {
    if (size > 0) {
        give(r, &(struct item){ .kind = ITEM_BYTES, .data = data, .size = size });
    }
}

static void give_mark(struct reader *r, enum item_mark mark) {
    give(r, &(struct item){ .kind = ITEM_MARK, .mark = mark });
}

/* ---- what becomes of a unit ---- */

static bool pass(struct reader *r, size_t size, step *next) {
    give_bytes(r, cut_look(&r->cut, size), size);
    cut_skip(&r->cut, size);
    r->next = next;
    return true;
}

static bool pass_with_body(struct reader *r, size_t size, uint64_t body, step *behind) {
    r->body.left = body;
    r->body.behind = behind;
    return pass(r, size, read_body);
}

static bool read_body(struct reader *r) {
    size_t n;
    const uint8_t *p = cut_skip_body(&r->cut, r->body.left, &n);
    give_bytes(r, p, n);
    r->body.left -= n;
    if (r->body.left > 0) {
        return false;
    }
    r->next = r->body.behind;
    return true;
}

/* The unit is nothing that is known here: everything passes from it on. */
static bool give_up(struct reader *r, const char *why) {
    r->counts.why = why;
    give_mark(r, MARK_OPAQUE);
    r->next = read_all;
    return true;
}

static bool read_all(struct reader *r) {
    size_t n;
    if (r->cut.held > 0) {
        pass(r, r->cut.held, read_all);
    }
    const uint8_t *p = cut_skip_body(&r->cut, UINT64_MAX, &n);
    give_bytes(r, p, n);
    return false;
}

/* ---- the head ---- */

static bool read_magic(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 8);
    if (p == NULL) {
        return false;
    }
    if (get_be32(p) == MULTIFD_MAGIC) {
        r->kind = READER_MULTIFD;
        return give_up(r, "a multifd channel");
    }
    if (get_be32(p) != MAGIC || get_be32(p + 4) != VERSION) {
        r->kind = READER_OTHER;
        return give_up(r, "another magic or version");
    }
    r->kind = READER_MAIN;
    return pass(r, 8, read_head);
}

static bool read_head(struct reader *r) {
    struct stream_head_unit u;
    switch (stream_head_read(&r->head, &r->cut, &u)) {
    case HEAD_WAITS:
        return false;
    case HEAD_UNIT:
        return pass_with_body(r, u.size, u.body, read_head);
    case HEAD_OVER:
        r->next = read_section;
        return true;
    case HEAD_UNKNOWN:
        break;
    }
    return give_up(r, u.why);
}

/* ---- sections ---- */

static bool read_start(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, SECTION_HEADER);
    if (p == NULL || (p = cut_look(&r->cut, SECTION_HEADER + p[5] + 8)) == NULL) {
        return false;
    }
    size_t n = p[5];
    if (r->has_ram || !is_name(p + SECTION_HEADER, n, "ram")) {
        return give_up(r, "another section than that of RAM");
    }
    if (get_be32(p + SECTION_HEADER + n + 4) != RAM_VERSION) {
        return give_up(r, "another version of RAM");
    }
    r->has_ram = true;
    r->id = get_be32(p + 1);
    r->section = START;
    return pass(r, SECTION_HEADER + n + 8, read_record);
}

static bool read_part(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, PART_HEADER);
    if (p == NULL) {
        return false;
    }
    if (!r->has_ram || get_be32(p + 1) != r->id) {
        return give_up(r, "another section than that of RAM");
    }
    r->section = p[0];
    return pass(r, PART_HEADER, read_record);
}

/* PACKAGED: the device state, LISTEN and RUN, as a stream within the stream. What comes behind it is pages again. */
static bool read_package(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 9);
    if (p == NULL) {
        return false;
    }
    if (get_be16(p + 3) != 4) {
        return give_up(r, "a package of no known length");
    }
    uint32_t size = get_be32(p + 5);
    give_mark(r, MARK_POSTCOPY);
    return pass_with_body(r, 9, size, read_section);
}

static bool read_command(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 5);
    if (p == NULL) {
        return false;
    }
    uint16_t command = get_be16(p + 1), size = get_be16(p + 3);
    switch (command) {
    case PACKAGED:
        return read_package(r);
    case SWITCHOVER_START:
        give_mark(r, MARK_SWITCHOVER);
        break;
    case POSTCOPY_ADVISE:
        r->advised = r->advised || size > 0; /* with nothing in it it is about disks */
        break;
    case OPEN_RETURN_PATH:
    case PING:
    case POSTCOPY_LISTEN:
    case POSTCOPY_RUN:
    case RAM_DISCARD:
        break;
    default:
        return give_up(r, "an unknown command");
    }
    return pass_with_body(r, 5, size, read_section);
}

/* At most a description of the device state comes, for people. */
static bool read_end(struct reader *r) {
    pass(r, 1, read_all);
    give_mark(r, MARK_VM_EOF);
    return true;
}

static bool read_section(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 1);
    if (p == NULL) {
        return false;
    }
    switch (p[0]) {
    case START:
        return read_start(r);
    case PART:
    case END:
        return read_part(r);
    case FULL:
        give_mark(r, MARK_DEVICES);
        return give_up(r, "device state");
    case COMMAND:
        return read_command(r);
    case VM_EOF:
        return read_end(r);
    default:
        return give_up(r, "an unknown section");
    }
}

/* ---- RAM ---- */

/* These 8 bytes are a block's page size or belong to what comes behind: the next block, or a record. Neither can be
 * taken for the other: a block begins with the length of its name, and a record here is smaller than a page. */
static bool read_page_size(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 8);
    if (p == NULL) {
        return false;
    }
    uint64_t v = get_be64(p);
    if (v > PAGE_SIZE && v <= UINT64_C(1) << 40 && (v & (v - 1)) == 0) {
        return pass(r, 8, read_block);
    }
    r->next = read_block; /* whatever may come there has 8 bytes and more */
    return true;
}

static bool read_block(struct reader *r) {
    if (r->unlisted == 0) {
        give_mark(r, MARK_RAM);
        r->next = read_record;
        return true;
    }
    if (r->advised && r->head.has_addresses) {
        return give_up(r, "blocks with addresses and perhaps page sizes");
    }
    size_t more = r->head.has_addresses ? 16 : 8;
    const uint8_t *p = cut_look(&r->cut, 1);
    if (p == NULL || (p = cut_look(&r->cut, 1u + p[0] + more)) == NULL) {
        return false;
    }
    size_t n = p[0];
    uint64_t size = get_be64(p + 1 + n);
    if (size > r->unlisted || (size & FLAGS) != 0) {
        return give_up(r, "blocks that are larger than all of them");
    }
    if (!blocks_add(&r->blocks, p + 1, n, size)) {
        return give_up(r, "blocks that cannot be told apart");
    }
    r->unlisted -= size;
    return pass(r, 1 + n + more, r->advised ? read_page_size : read_block);
}

/* EOS and the footer are one unit: whoever finds another footer is still among the records. */
static bool read_end_of_records(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 8 + FOOTER_SIZE);
    if (p == NULL) {
        return false;
    }
    if (p[8] != FOOTER || get_be32(p + 9) != r->id) {
        return give_up(r, "no footer");
    }
    pass(r, 8 + FOOTER_SIZE, read_section);
    r->counts.sections++;
    give_mark(r, r->section == END ? MARK_RAM_END : MARK_SECTION);
    return true;
}

/* A page whose content is in the stream: the head is taken off, and the content is gathered. */
static bool begin_page(struct reader *r, const struct item *i, size_t size) {
    r->page.item = *i;
    r->page.got = 0;
    cut_skip(&r->cut, size);
    r->next = read_content;
    return true;
}

static void give_page(struct reader *r, const uint8_t *data) {
    r->page.item.data = data;
    r->page.item.size = PAGE_SIZE;
    r->page.got = 0;
    r->counts.pages++;
    r->next = read_record;
    give(r, &r->page.item);
}

/* As it lies in the feed, when all of it does. */
static bool read_content(struct reader *r) {
    size_t n;
    const uint8_t *p = cut_skip_body(&r->cut, PAGE_SIZE - r->page.got, &n);
    if (n == PAGE_SIZE) {
        give_page(r, p);
        return true;
    }
    if (n > 0) {
        memcpy(r->page.data + r->page.got, p, n);
    }
    r->page.got += n;
    if (r->page.got < PAGE_SIZE) {
        return false;
    }
    give_page(r, r->page.data);
    return true;
}

static bool read_zero(struct reader *r, struct item *i, size_t size) {
    const uint8_t *p = cut_look(&r->cut, size + 1);
    if (p == NULL) {
        return false;
    }
    i->kind = ITEM_ZERO;
    i->fill = p[size];
    give(r, i);
    r->counts.zeros++;
    cut_skip(&r->cut, size + 1);
    return true;
}

/* QEMU's own codecs, as bytes: their length is told behind the head of `size` bytes. */
static bool read_coded(struct reader *r, enum flag kind, size_t size) {
    size_t rest = kind == COMPRESS_PAGE ? 4 : 3;
    const uint8_t *p = cut_look(&r->cut, size + rest);
    if (p == NULL) {
        return false;
    }
    uint32_t body = kind == COMPRESS_PAGE ? get_be32(p + size) : get_be16(p + size + 1);
    if (kind == COMPRESS_PAGE ? body > COMPRESSED_MOST : p[size] != 1 || body > PAGE_SIZE) {
        return give_up(r, "a page of no known length");
    }
    return pass_with_body(r, size + rest, body, read_record);
}

/* The block of the record and the size of its head; false: wait, or it was given up. */
static bool read_record_head(struct reader *r, uint64_t value, const struct listed_block **block, size_t *size) {
    *size = 8;
    *block = r->block;
    if ((value & CONTINUE) == 0) {
        const uint8_t *p = cut_look(&r->cut, HEADER);
        if (p == NULL || (p = cut_look(&r->cut, (size_t)HEADER + p[8])) == NULL) {
            return false;
        }
        *size = (size_t)HEADER + p[8];
        *block = blocks_find(&r->blocks, p + HEADER, p[8]);
    }
    if (*block == NULL || (value & ~(uint64_t)FLAGS) >= (*block)->size) {
        give_up(r, "a page of no block");
        return false;
    }
    return true;
}

static bool read_page(struct reader *r, uint64_t value, enum flag kind) {
    const struct listed_block *block;
    size_t size;
    if (!read_record_head(r, value, &block, &size)) {
        return r->next == read_all;
    }
    struct item i = {
        .kind = ITEM_PAGE, .block = block->name, .offset = value & ~(uint64_t)FLAGS, .named = (value & CONTINUE) == 0
    };
    bool taken = kind == PAGE   ? begin_page(r, &i, size)
                 : kind == ZERO ? read_zero(r, &i, size)
                                : read_coded(r, kind, size);
    if (taken && r->next != read_all) {
        r->block = block;
    }
    return taken;
}

static bool read_record(struct reader *r) {
    const uint8_t *p = cut_look(&r->cut, 8);
    if (p == NULL) {
        return false;
    }
    uint64_t value = get_be64(p);
    if (value == EOS) {
        return read_end_of_records(r);
    }
    if (value == MULTIFD_FLUSH) {
        pass(r, 8, read_record);
        give_mark(r, MARK_FLUSH);
        return true;
    }
    enum flag kind = (enum flag)(value & FLAGS & ~(uint64_t)CONTINUE);
    if (r->section == START) {
        r->unlisted = value & ~(uint64_t)FLAGS;
        return (value & FLAGS) == MEM_SIZE && r->blocks.count == 0 ? pass(r, 8, read_block)
                                                                   : give_up(r, "no list of blocks");
    }
    if (kind == ZERO || kind == PAGE || kind == COMPRESS_PAGE || kind == XBZRLE) {
        return read_page(r, value, kind);
    }
    return give_up(r, "an unknown flag of a page");
}

/* ---- the reader ---- */

int reader_feed(struct reader *r, const uint8_t *data, size_t size, struct error *err) {
    cut_begin(&r->cut, data, size, NULL, err);
    while (!r->cut.broken && r->next(r)) {
    }
    r->counts.bytes += size;
    return cut_end(&r->cut);
}

/* A page that is not whole. */
static void give_rest_of_page(struct reader *r) {
    uint8_t head[ITEM_HEAD_MOST];
    give_bytes(r, head, item_head(&r->page.item, head));
    give_bytes(r, r->page.data, r->page.got);
}

int reader_finish(struct reader *r, struct error *err) {
    cut_begin(&r->cut, r->page.data, 0, NULL, err);
    if (r->next == read_content) {
        give_rest_of_page(r);
    }
    read_all(r);
    give_mark(r, MARK_END);
    r->next = read_all;
    return cut_end(&r->cut);
}

struct reader *reader_open(const struct item_sink *sink, struct error *err) {
    struct reader *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    r->sink = *sink;
    r->next = read_magic;
    return r;
}

void reader_close(struct reader *r) {
    if (r != NULL) {
        blocks_free(&r->blocks);
        free(r);
    }
}

enum reader_kind reader_kind(const struct reader *r) {
    return r->kind;
}

const struct reader_counts *reader_counts(const struct reader *r) {
    return &r->counts;
}

const char *reader_kind_name(enum reader_kind kind) {
    static const char *const names[] = { "unknown", "main", "multifd", "other" };
    return names[kind];
}
