/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/stream.h"

#include "base/fault.h"
#include "vmm/qemu/cut.h"
#include "vmm/qemu/stream_format.h"
#include "vmm/qemu/stream_head.h"

#include <stdlib.h>
#include <string.h>

struct stream;
/* Reads one unit. false: not all of it has come. */
typedef bool step(struct stream *s);

struct stream {
    struct vmm_filter filter; /* first: the ops are given its address */
    struct vmm_carried carried;
    struct cut cut;
    step *next;
    struct { /* bytes behind a unit */
        uint64_t left;
        bool skip;
        step *behind;
    } body;
    struct stream_head head;
    uint64_t unlisted; /* bytes of blocks that the list has yet to name */
    bool has_ram;      /* RAM has begun, and `id` is its section's */
    uint32_t id;
    enum kind section; /* of RAM, that is being read */
    struct {
        char name[NAME_MOST + 1]; /* that QEMU has named last; "" before */
        bool carried;
    } block;
    int64_t most; /* pages that may be left out yet: for the fault */
    struct {      /* the record that was left out last, as it is when it names its block; whole between two records */
        size_t size;
        const uint8_t *rest; /* that belongs behind it and still lies in the feed */
        size_t rest_size;
        uint8_t data[HEADER + NAME_MOST + 4 + COMPRESSED_MOST];
    } kept;
};

static step read_head, read_section, read_record, read_block, read_all;
static step read_body;

/* ---- what becomes of a unit ---- */

static bool pass(struct stream *s, size_t size, step *next) {
    cut_pass(&s->cut, size);
    s->next = next;
    return true;
}

static bool go_on_with_body(struct stream *s, uint64_t size, bool skip, step *behind) {
    s->body.left = size;
    s->body.skip = skip;
    s->body.behind = behind;
    s->next = read_body;
    return true;
}

static bool pass_with_body(struct stream *s, size_t size, uint64_t body, step *behind) {
    cut_pass(&s->cut, size);
    return go_on_with_body(s, body, false, behind);
}

static bool read_body(struct stream *s) {
    size_t n;
    if (s->body.skip) {
        s->kept.rest = cut_skip_body(&s->cut, s->body.left, &n);
        s->kept.rest_size = n;
    } else {
        cut_pass_body(&s->cut, s->body.left, &n);
    }
    s->body.left -= n;
    if (s->body.left > 0) {
        return false;
    }
    s->next = s->body.behind;
    return true;
}

/* Before what the record lies in goes away. Once a feed and not once a page: else most of the filter's time would be
 * spent here. */
static void keep_rest(struct stream *s) {
    if (s->kept.rest_size > 0) {
        memcpy(s->kept.data + s->kept.size, s->kept.rest, s->kept.rest_size);
        s->kept.size += s->kept.rest_size;
        s->kept.rest_size = 0;
    }
}

/* The destination's QEMU has not heard in which block QEMU is: it does, by the page that was left out last. */
static void name_block(struct stream *s, bool in_section) {
    uint8_t frame[HEADER + FOOTER_SIZE];
    if (!in_section) {
        frame[0] = PART;
        put_be32(frame + 1, s->id);
        cut_insert(&s->cut, frame, PART_HEADER);
    }
    keep_rest(s);
    cut_insert(&s->cut, s->kept.data, s->kept.size);
    if (!in_section) {
        put_be64(frame, EOS);
        frame[8] = FOOTER;
        put_be32(frame + 9, s->id);
        cut_insert(&s->cut, frame, 8 + FOOTER_SIZE);
    }
}

/* The unit is nothing that is known here: everything passes from it on. */
static bool give_up(struct stream *s, const char *why) {
    if (s->block.carried) {
        name_block(s, s->next == read_record);
    }
    atomic_store_explicit(&s->filter.counts.why, why, memory_order_relaxed);
    s->next = read_all;
    return true;
}

static bool read_all(struct stream *s) {
    cut_pass_all(&s->cut);
    return false;
}

/* ---- the head ---- */

static bool read_magic(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 8);
    if (p == NULL) {
        return false;
    }
    if (get_be32(p) != MAGIC || get_be32(p + 4) != VERSION) {
        return give_up(s, "another magic or version");
    }
    return pass(s, 8, read_head);
}

static bool read_head(struct stream *s) {
    struct stream_head_unit u;
    switch (stream_head_read(&s->head, &s->cut, &u)) {
    case HEAD_WAITS:
        return false;
    case HEAD_UNIT:
        return pass_with_body(s, u.size, u.body, read_head);
    case HEAD_OVER:
        s->next = read_section;
        return true;
    case HEAD_UNKNOWN:
        break;
    }
    return give_up(s, u.why);
}

/* ---- sections ---- */

static bool read_start(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 6);
    if (p == NULL || (p = cut_look(&s->cut, 6u + p[5] + 8)) == NULL) {
        return false;
    }
    size_t n = p[5];
    if (s->has_ram || !is_name(p + 6, n, "ram")) {
        return give_up(s, "another section than that of RAM");
    }
    if (get_be32(p + 6 + n + 4) != RAM_VERSION) {
        return give_up(s, "another version of RAM");
    }
    s->has_ram = true;
    s->id = get_be32(p + 1);
    s->section = START;
    return pass(s, 6 + n + 8, read_record);
}

static bool read_part(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, PART_HEADER);
    if (p == NULL) {
        return false;
    }
    if (!s->has_ram || get_be32(p + 1) != s->id) {
        return give_up(s, "another section than that of RAM");
    }
    s->section = p[0];
    return pass(s, PART_HEADER, read_record);
}

/* PACKAGED is a stream within the stream, POSTCOPY_ADVISE changes the list of blocks, and so on. */
static bool read_command(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 5);
    if (p == NULL) {
        return false;
    }
    uint16_t command = get_be16(p + 1);
    if (command != OPEN_RETURN_PATH && command != PING && command != SWITCHOVER_START) {
        return give_up(s, "an unknown command");
    }
    return pass_with_body(s, 5, get_be16(p + 3), read_section);
}

static bool read_section(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 1);
    if (p == NULL) {
        return false;
    }
    switch (p[0]) {
    case START:
        return read_start(s);
    case PART:
    case END:
        return read_part(s);
    case COMMAND:
        return read_command(s);
    default:
        return give_up(s, "an unknown section");
    }
}

/* ---- RAM ---- */

static bool read_block(struct stream *s) {
    if (s->unlisted == 0) {
        s->next = read_record;
        return true;
    }
    size_t more = s->head.has_addresses ? 16 : 8;
    const uint8_t *p = cut_look(&s->cut, 1);
    if (p == NULL || (p = cut_look(&s->cut, 1u + p[0] + more)) == NULL) {
        return false;
    }
    uint64_t size = get_be64(p + 1 + p[0]);
    if (size > s->unlisted) {
        return give_up(s, "blocks that are larger than all of them");
    }
    s->unlisted -= size;
    return pass(s, 1u + p[0] + more, read_block);
}

/* EOS and the footer are one unit: whoever finds another footer is still among the records. */
static bool read_end_of_records(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 8 + FOOTER_SIZE);
    if (p == NULL) {
        return false;
    }
    if (p[8] != FOOTER || get_be32(p + 9) != s->id) {
        return give_up(s, "no footer");
    }
    return pass(s, 8 + FOOTER_SIZE, s->section == END ? read_all : read_section);
}

/* Of a back end the stream has its path, on newer machine types, where the engine has its id. */
static const char *engines_name(const char *name) {
    static const char objects[] = "/objects/";
    return strncmp(name, objects, sizeof(objects) - 1) == 0 ? name + sizeof(objects) - 1 : name;
}

static void name_is(struct stream *s, const uint8_t *name, size_t size) {
    memcpy(s->block.name, name, size);
    s->block.name[size] = '\0';
    s->block.carried = s->carried.is_carried(s->carried.opaque, engines_name(s->block.name));
}

/* Begins to keep a record: what it says of its page, the block's name, and what stands before its body. */
static void keep_header(struct stream *s, uint64_t value, const uint8_t *rest, size_t rest_size) {
    size_t n = strlen(s->block.name);
    put_be64(s->kept.data, value & ~(uint64_t)CONTINUE);
    s->kept.data[8] = (uint8_t)n;
    memcpy(s->kept.data + HEADER, s->block.name, n);
    memcpy(s->kept.data + HEADER + n, rest, rest_size);
    s->kept.size = HEADER + n + rest_size;
    s->kept.rest_size = 0;
}

/* How long a page's body is behind `size` bytes of header: *rest bytes that tell it, which belong to the unit, and then
 * *body. false: it has not come yet. Where *body is SIZE_MAX nobody knows. */
static bool measure(struct stream *s, enum flag kind, size_t size, size_t *rest, size_t *body) {
    const uint8_t *p;
    *rest = kind == COMPRESS_PAGE ? 4 : kind == XBZRLE ? 3 : 0;
    if ((p = cut_look(&s->cut, size + *rest)) == NULL) {
        return false;
    }
    switch (kind) {
    case ZERO:
        *body = 1;
        break;
    case PAGE:
        *body = PAGE_SIZE;
        break;
    case COMPRESS_PAGE:
        *body = get_be32(p + size) <= COMPRESSED_MOST ? get_be32(p + size) : SIZE_MAX;
        break;
    default: /* XBZRLE */
        *body = p[size] == 1 && get_be16(p + size + 1) <= PAGE_SIZE ? get_be16(p + size + 1) : SIZE_MAX;
        break;
    }
    return true;
}

/* A change makes sense only on top of what was left out, so it may not be let through, and who gives up cannot see it.
 */
static bool refuse_change(struct stream *s) {
    error_set(s->cut.err, ERROR_VMM, "QEMU sends changes of pages of %s, which godwit carries: xbzrle must be off",
              s->block.name);
    cut_fail(&s->cut);
    return false;
}

static bool read_page(struct stream *s, uint64_t value, enum flag kind) {
    size_t size = 8, rest, body;
    const uint8_t *p;
    if ((value & CONTINUE) == 0) {
        if ((p = cut_look(&s->cut, HEADER)) == NULL) {
            return false;
        }
        size = (size_t)HEADER + p[8];
    } else if (s->block.name[0] == '\0') {
        return give_up(s, "a page of no block");
    }
    if (!measure(s, kind, size, &rest, &body)) {
        return false;
    }
    if (body == SIZE_MAX) {
        return give_up(s, "a page of no known length");
    }
    p = cut_look(&s->cut, size + rest);
    if ((value & CONTINUE) == 0) {
        name_is(s, p + HEADER, size - HEADER);
    }
    if (!s->block.carried) {
        return pass_with_body(s, size + rest, body, read_record);
    }
    if (kind == XBZRLE) {
        return refuse_change(s);
    }
    s->most--;
    atomic_fetch_add_explicit(&s->filter.counts.pages, 1, memory_order_relaxed);
    keep_header(s, value, p + size, rest);
    cut_skip(&s->cut, size + rest);
    return go_on_with_body(s, body, true, read_record);
}

static bool read_record(struct stream *s) {
    const uint8_t *p = cut_look(&s->cut, 8);
    if (p == NULL) {
        return false;
    }
    if (s->most == 0) {
        return give_up(s, "a fault that was planned");
    }
    uint64_t value = get_be64(p);
    if (value == EOS) {
        return read_end_of_records(s);
    }
    if (value == MULTIFD_FLUSH) {
        return pass(s, 8, read_record);
    }
    enum flag kind = (enum flag)(value & FLAGS & ~(uint64_t)CONTINUE);
    if (s->section == START) {
        s->unlisted = value & ~(uint64_t)FLAGS;
        return (value & FLAGS) == MEM_SIZE ? pass(s, 8, read_block) : give_up(s, "no list of blocks");
    }
    if (kind == ZERO || kind == PAGE || kind == COMPRESS_PAGE || kind == XBZRLE) {
        return read_page(s, value, kind);
    }
    return give_up(s, "an unknown flag of a page");
}

/* ---- the filter ---- */

static struct stream *stream_of(struct vmm_filter *f) {
    return (struct stream *)f;
}

static int stream_feed(struct vmm_filter *f, const uint8_t *data, size_t size, const struct vmm_sink *sink,
                       struct error *err) {
    struct stream *s = stream_of(f);
    cut_begin(&s->cut, data, size, sink, err);
    while (!s->cut.broken && s->next(s)) {
    }
    keep_rest(s);
    int rc = cut_end(&s->cut);
    atomic_fetch_add_explicit(&f->counts.in, size, memory_order_relaxed);
    atomic_store_explicit(&f->counts.out, s->cut.out, memory_order_relaxed);
    return rc;
}

static int stream_finish(struct vmm_filter *f, const struct vmm_sink *sink, struct error *err) {
    struct stream *s = stream_of(f);
    s->next = read_all;
    return stream_feed(f, s->kept.data, 0, sink, err);
}

static void stream_close(struct vmm_filter *f) {
    free(stream_of(f));
}

static const struct vmm_filter_ops ops = { .feed = stream_feed, .finish = stream_finish, .close = stream_close };

struct vmm_filter *qemu_stream_open(const struct vmm_carried *carried, struct error *err) {
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    s->filter.ops = &ops;
    s->carried = *carried;
    s->next = read_magic;
    s->most = fault_value("give-up", NULL, INT64_MAX);
    return &s->filter;
}
