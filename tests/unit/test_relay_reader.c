/* SPDX-License-Identifier: Apache-2.0 */
/* The items of a migration stream are the stream, whatever it is and however it is cut. Real streams:
 * tests/e2e/test_relay.py. */
#include "made_stream.h"
#include "relay/reader.h"

#include <limits.h>
#include <stdio.h>

#define MARKS_MOST 64
#define ITEMS_MOST 64

/* What came out of a reader. */
struct output {
    struct bytes bytes;
    char marks[MARKS_MOST + 1]; /* a letter each */
    size_t mark_count;
    struct page {
        enum item_kind kind;
        char block[ITEM_NAME_MOST + 1];
        uint64_t offset;
        bool named;
    } pages[ITEMS_MOST];
    size_t page_count;
    struct reader_counts counts;
    enum reader_kind kind;
};

static struct output whole, cut;

static int take(void *opaque, const struct item *i, struct error *err) {
    struct output *o = opaque;
    uint8_t head[ITEM_HEAD_MOST];
    (void)err;
    add(&o->bytes, head, item_head(i, head));
    if (i->size > 0) {
        add(&o->bytes, i->data, i->size);
    }
    if (i->kind == ITEM_MARK && o->mark_count < MARKS_MOST) {
        o->marks[o->mark_count++] = "lsfwperdox"[i->mark]; /* in the order of enum item_mark */
    }
    if ((i->kind == ITEM_PAGE || i->kind == ITEM_ZERO) && o->page_count < ITEMS_MOST) {
        struct page *p = &o->pages[o->page_count++];
        p->kind = i->kind;
        p->offset = i->offset;
        p->named = i->named;
        snprintf(p->block, sizeof(p->block), "%s", i->block);
    }
    return 0;
}

static void run(struct output *o, const struct bytes *b, size_t (*piece)(void *opaque, size_t at), void *opaque) {
    struct error err = { 0 };
    const struct item_sink sink = { .take = take, .opaque = o };
    memset((uint8_t *)o + sizeof(o->bytes), 0, sizeof(*o) - sizeof(o->bytes));
    o->bytes.size = 0;
    struct reader *r = reader_open(&sink, &err);
    assert_ok(r != NULL, &err);
    for (size_t at = 0, n; at < b->size; at += n) {
        n = piece != NULL ? piece(opaque, at) : b->size;
        n = n < b->size - at ? n : b->size - at;
        /* A copy of its own: the reader must not look at what it was given before, or behind its end. */
        uint8_t *copy = malloc(n);
        memcpy(copy, b->data + at, n);
        assert_ok(reader_feed(r, copy, n, &err) == 0, &err);
        free(copy);
    }
    assert_ok(reader_finish(r, &err) == 0, &err);
    o->counts = *reader_counts(r);
    o->kind = reader_kind(r);
    reader_close(r);
}

static size_t split_at(void *opaque, size_t at) {
    size_t split = *(size_t *)opaque;
    return at < split ? split : SIZE_MAX;
}

static size_t fixed(void *opaque, size_t at) {
    (void)at;
    return *(size_t *)opaque;
}

static size_t by_chance(void *opaque, size_t at) {
    (void)at;
    return 1 + (size_t)random_below(opaque, (uint64_t)1 << random_below(opaque, 14));
}

static void assert_same_bytes(const struct output *o, const struct bytes *b) {
    assert_int_equal(o->bytes.size, b->size);
    assert_memory_equal(o->bytes.data, b->data, b->size);
    assert_int_equal(o->counts.bytes, b->size);
}

static void assert_same(const struct output *a, const struct output *b) {
    assert_string_equal(a->marks, b->marks);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->counts.pages, b->counts.pages);
    assert_int_equal(a->counts.zeros, b->counts.zeros);
    assert_ptr_equal(a->counts.why, b->counts.why);
    assert_int_equal(a->page_count, b->page_count);
    assert_memory_equal(a->pages, b->pages, sizeof(a->pages));
}

/* Runs the made stream whole and in some pieces, and holds all of it against each other. */
static void run_made(void) {
    run(&whole, &in, NULL, NULL);
    assert_same_bytes(&whole, &in);
    for (size_t size = 1; size < 9000; size = size * 2 + 1) {
        run(&cut, &in, fixed, &size);
        assert_same_bytes(&cut, &in);
        assert_same(&whole, &cut);
    }
}

static void make_precopy(void) {
    begin(false);
    command(1, 0);
    command(2, 4);
    list(false);
    header(PART, RAM, NULL);
    stays("vga.vram", 0, FULL_PAGE);
    stays(NULL, 1, ZERO);
    stays("pc.bios", 3, FULL_PAGE);
    stays(NULL, 4, XBZRLE);
    stays(NULL, 5, COMPRESS);
    records_end(RAM);
    header(PART, RAM, NULL);
    stays(NULL, 6, FULL_PAGE); /* CONTINUE reaches over sections */
    both(8, FLUSH);
    records_end(RAM);
    command(11, 0);
    header(END, RAM, NULL);
    stays("vga.vram", 15, ZERO);
    records_end(RAM);
    devices();
}

static void test_precopy(void **state) {
    (void)state;
    make_precopy();
    run_made();
    assert_string_equal(whole.marks, "lssfswerox");
    assert_int_equal(whole.kind, READER_MAIN);
    assert_int_equal(whole.counts.pages, 3);
    assert_int_equal(whole.counts.zeros, 2);
    assert_string_equal(whole.counts.why, "device state");
    static const struct page pages[] = { { ITEM_PAGE, "vga.vram", 0, true },
                                         { ITEM_ZERO, "vga.vram", PAGE, false },
                                         { ITEM_PAGE, "pc.bios", 3 * PAGE, true },
                                         { ITEM_PAGE, "pc.bios", 6 * PAGE, false },
                                         { ITEM_ZERO, "vga.vram", 15 * PAGE, true } };
    assert_int_equal(whole.page_count, COUNT(pages));
    for (size_t i = 0; i < COUNT(pages); i++) {
        assert_int_equal(whole.pages[i].kind, pages[i].kind);
        assert_string_equal(whole.pages[i].block, pages[i].block);
        assert_int_equal(whole.pages[i].offset, pages[i].offset);
        assert_int_equal(whole.pages[i].named, pages[i].named);
    }
}

static void test_every_split(void **state) {
    (void)state;
    make_precopy();
    run(&whole, &in, NULL, NULL);
    for (size_t split = 1; split < in.size; split++) {
        run(&cut, &in, split_at, &split);
        assert_same_bytes(&cut, &in);
        assert_same(&whole, &cut);
    }
}

/* A stream that ends anywhere is given whole. */
static void test_every_end(void **state) {
    (void)state;
    make_precopy();
    for (size_t size = in.size; size > 0; size--) {
        in.size = size;
        run(&whole, &in, NULL, NULL);
        assert_same_bytes(&whole, &in);
        assert_int_equal(whole.marks[whole.mark_count - 1], 'x');
    }
}

static void test_postcopy(void **state) {
    (void)state;
    begin(false);
    command(1, 0);
    command(3, 16);
    header(START, RAM, "ram");
    both(8, 3 * 512 * PAGE | MEM_SIZE);
    both_text("ram0");
    both(8, 512 * PAGE);
    both(8, 512 * PAGE); /* of a block of huge pages */
    both_text("pc.bios");
    both(8, 512 * PAGE);
    both_text("ram1");
    both(8, 512 * PAGE);
    both(8, 512 * PAGE);
    records_end(RAM);
    header(PART, RAM, NULL);
    stays("ram1", 7, FULL_PAGE);
    records_end(RAM);
    command(6, 24);
    both(1, 8);
    both(2, 7);
    both(2, 4);
    both(4, 3000);
    for (unsigned i = 0; i < 3000 / 4; i++) {
        both(4, i);
    }
    header(PART, RAM, NULL);
    stays("ram0", 511, FULL_PAGE);
    records_end(RAM);
    header(END, RAM, NULL);
    records_end(RAM);
    both(1, 0);
    run_made();
    assert_string_equal(whole.marks, "lsspsedx");
    assert_int_equal(whole.counts.pages, 2);
    assert_null(whole.counts.why);
}

static void test_shared_memory_is_left_out(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    stays("vga.vram", 2, FULL_PAGE);
    records_end(RAM);
    run_made();
    assert_int_equal(whole.counts.pages, 1);
    assert_null(whole.counts.why);
}

static void make_odd_head(void) {
    begin(false);
    list(false);
    header(PART, RAM, NULL);
}

#define assert_opaque(why_)                                                                                            \
    do {                                                                                                               \
        run_made();                                                                                                    \
        assert_non_null(whole.counts.why);                                                                             \
        assert_string_equal(whole.counts.why, (why_));                                                                 \
        assert_non_null(strchr(whole.marks, 'o'));                                                                     \
    } while (0)

/* At the first thing that is not known, and for good: what looks like pages behind it is not taken for any. */
static void test_opaque(void **state) {
    (void)state;
    make_odd_head();
    stays("none", 1, FULL_PAGE);
    stays("pc.bios", 1, FULL_PAGE);
    records_end(RAM);
    assert_opaque("a page of no block");
    assert_int_equal(whole.counts.pages, 0);

    make_odd_head();
    stays("pc.bios", 16, FULL_PAGE); /* one behind its end */
    assert_opaque("a page of no block");

    make_odd_head();
    stays(NULL, 1, FULL_PAGE);
    assert_opaque("a page of no block");

    make_odd_head();
    stays("pc.bios", 15, HOOK);
    assert_opaque("an unknown flag of a page");

    begin(false);
    odd(START);
    assert_opaque("another section than that of RAM");

    begin(false);
    command(8, 0);
    assert_opaque("an unknown command");

    begin(false);
    subsection("configuration/target-page-bits", 1, 13);
    assert_opaque("an unknown subsection of the configuration");

    make_odd_head();
    records_end(ODD);
    assert_opaque("no footer");

    begin(true);
    command(3, 16);
    list(true);
    assert_opaque("blocks with addresses and perhaps page sizes");
}

static void test_other_connections(void **state) {
    (void)state;
    in.size = 0;
    add_int(&in, 4, 0x11223344);
    for (unsigned i = 0; i < 5000; i++) {
        add_int(&in, 4, i);
    }
    run_made();
    assert_int_equal(whole.kind, READER_MULTIFD);
    in.size = 0;
    add_int(&in, 8, 0x8000);
    add_int(&in, 8, 0x8000);
    run_made();
    assert_int_equal(whole.kind, READER_OTHER);
    in.size = 0;
    add_int(&in, 4, 0x5145564d);
    run_made();
    assert_int_equal(whole.kind, READER_UNKNOWN);
}

/* Whatever comes. */
static void test_mutations(void **state) {
    static struct bytes made;
    uint64_t chance = 7;
    (void)state;
    make_precopy();
    made = in;
    for (unsigned round = 0; round < 20000; round++) {
        in.size = made.size;
        memcpy(in.data, made.data, made.size);
        for (uint64_t changes = 1 + random_below(&chance, 3); changes > 0; changes--) {
            /* the heads of things are few among the contents of pages */
            uint64_t at = random_below(&chance, 2) != 0 ? random_below(&chance, in.size) : random_below(&chance, 400);
            in.data[at] ^= (uint8_t)(1u << random_below(&chance, 8));
        }
        run(&whole, &in, NULL, NULL);
        assert_same_bytes(&whole, &in);
        uint64_t cuts = chance;
        run(&cut, &in, by_chance, &cuts);
        assert_same_bytes(&cut, &in);
        assert_same(&whole, &cut);
    }
}

static int take_nothing(void *opaque, const struct item *i, struct error *err) {
    unsigned *left = opaque;
    (void)i;
    return (*left)-- > 0 ? 0 : error_set(err, ERROR_LINK, "full");
}

static void test_sink_that_fails(void **state) {
    (void)state;
    make_precopy();
    for (unsigned items = 0; items < 40; items++) {
        struct error err = { 0 };
        unsigned left = items;
        const struct item_sink sink = { .take = take_nothing, .opaque = &left };
        struct reader *r = reader_open(&sink, &err);
        assert_refused(reader_feed(r, in.data, in.size, &err), &err, ERROR_LINK, "full");
        assert_int_equal(left, UINT_MAX); /* asked once more, and never again */
        reader_close(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precopy),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_every_end),
        cmocka_unit_test(test_postcopy),
        cmocka_unit_test(test_shared_memory_is_left_out),
        cmocka_unit_test(test_opaque),
        cmocka_unit_test(test_other_connections),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_sink_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
