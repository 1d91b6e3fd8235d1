/* SPDX-License-Identifier: Apache-2.0 */
/* Streams made by hand, of every kind of thing that may be in them. Those of real QEMUs: tests/e2e/test_stream.py. */
#include "../support/stream_model.h"
#include "made_stream.h"
#include "vmm/qemu/stream.h"

static struct bytes got;
static struct model in_model, out_model;

static bool is_carried(void *opaque, const char *block) {
    (void)opaque;
    return strstr(block, "vram") != NULL || strstr(block, "rom") != NULL;
}

static bool is_never_carried(void *opaque, const char *block) {
    (void)opaque;
    (void)block;
    return false;
}

static int take(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    (void)err;
    add(opaque, data, size);
    return 0;
}

static const struct vmm_sink sink = { .take = take, .opaque = &got };

static struct vmm_filter *filter_of(bool (*carried)(void *, const char *)) {
    struct error err = { 0 };
    const struct vmm_carried which = { .is_carried = carried };
    struct vmm_filter *f = qemu_stream_open(&which, &err);
    assert_ok(f != NULL, &err);
    return f;
}

/* Puts `in` through a filter, in pieces: 0 is one, 1 every byte by itself, else it is a seed. */
static struct vmm_filter *feed(bool (*carried)(void *, const char *), uint64_t pieces) {
    struct vmm_filter *f = filter_of(carried);
    struct error err = { 0 };
    got.size = 0;
    for (size_t at = 0; at < in.size;) {
        size_t n = pieces == 0 ? in.size : pieces == 1 ? 1 : 1 + random_below(&pieces, 1u << random_below(&pieces, 14));
        n = n < in.size - at ? n : in.size - at;
        uint8_t *piece = malloc(n);
        memcpy(piece, in.data + at, n);
        assert_ok(f->ops->feed(f, piece, n, &sink, &err) == 0, &err);
        free(piece);
        at += n;
    }
    assert_ok(f->ops->finish(f, &sink, &err) == 0, &err);
    return f;
}

static void is_same(const struct bytes *a, const struct bytes *b) {
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

/* `want` comes out of `in`, however it is cut; `pages` were left out, and it gave up for `why` or did not (NULL). */
static void check(uint64_t pages, const char *why) {
    for (uint64_t pieces = 0; pieces < 60; pieces++) {
        struct vmm_filter *f = feed(is_carried, pieces);
        is_same(&got, &want);
        assert_int_equal(atomic_load(&f->counts.pages), pages);
        assert_int_equal(atomic_load(&f->counts.in), in.size);
        assert_int_equal(atomic_load(&f->counts.out), want.size);
        const char *said = atomic_load(&f->counts.why);
        if (why == NULL) {
            assert_null(said);
        } else {
            assert_non_null(said);
            assert_string_equal(said, why);
        }
        f->ops->close(f);
        f = feed(is_never_carried, pieces);
        is_same(&got, &in);
        f->ops->close(f);
    }
}

/* ... and the destination's QEMU finds in it what it should. */
static void check_loads(uint64_t pages, const char *why) {
    check(pages, why);
    model_load(&in_model, in.data, in.size);
    model_load(&out_model, want.data, want.size);
    assert_int_equal(in_model.end, MODEL_DEVICES);
    assert_true(model_agrees(&in_model, &out_model, is_carried, why != NULL));
}

static void pages_are_left_out(void **state) {
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        begin(shared);
        list(shared);
        header(PART, RAM, NULL);
        goes("vga.vram", 0, FULL_PAGE);
        goes(NULL, 1, ZERO);
        goes(NULL, 2, COMPRESS);
        stays("pc.bios", 0, FULL_PAGE);
        stays(NULL, 1, FULL_PAGE);
        stays(NULL, 2, COMPRESS);
        stays(NULL, 3, ZERO);
        both(8, FLUSH);
        goes("0000:00:03.0/rom", 4, FULL_PAGE);
        records_end(RAM);
        header(PART, RAM, NULL);
        goes(NULL, 5, FULL_PAGE); /* CONTINUE reaches across sections */
        stays("pc.bios", 3, XBZRLE);
        records_end(RAM);
        command(2, 4);
        header(END, RAM, NULL);
        goes("vga.vram", 5, ZERO);
        records_end(RAM);
        devices();
        check_loads(6, NULL);
    }
}

static void nothing_behind_ram_is_looked_at(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(END, RAM, NULL);
    goes("vga.vram", 5, ZERO);
    records_end(RAM);
    header(PART, RAM, NULL);
    stays("vga.vram", 6, FULL_PAGE);
    records_end(RAM);
    check_loads(1, NULL);
}

static void known_commands_and_subsections(void **state) {
    (void)state;
    begin(true);
    subsection("configuration/target-page-bits", 1, 12);
    command(1, 0);
    command(2, 4);
    list(true);
    command(11, 0);
    header(END, RAM, NULL);
    goes("vga.vram", 5, ZERO);
    records_end(RAM);
    devices();
    check_loads(1, NULL);
}

/* The page that was left out last, named. */
static void kept(const char *name, uint64_t at, unsigned kind) {
    put_page(&want, name, at, kind);
}

/* ... between two sections. */
static void kept_in_part(const char *name, uint64_t at, unsigned kind) {
    add_int(&want, 1, PART);
    add_int(&want, 4, RAM);
    kept(name, at, kind);
    add_int(&want, 8, EOS);
    add_int(&want, 1, 0x7e);
    add_int(&want, 4, RAM);
}

/* Everything passes from here on, CONTINUE too. */
static void rest(void) {
    stays(NULL, 7, FULL_PAGE);
    stays("pc.bios", 1, FULL_PAGE);
    stays("0000:00:03.0/rom", 1, ZERO);
    records_end(RAM);
    header(END, RAM, NULL);
    stays(NULL, 8, FULL_PAGE);
    records_end(RAM);
    devices();
}

static const unsigned kinds[] = { ZERO, FULL_PAGE, COMPRESS };

static void unknown_flag_behind_pages_that_were_left_out(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        begin(true);
        list(true);
        header(PART, RAM, NULL);
        stays("pc.bios", 0, FULL_PAGE);
        goes("vga.vram", 0, FULL_PAGE);
        goes(NULL, 1, kinds[i]);
        kept("vga.vram", 1, kinds[i]);
        both(8, HOOK);
        rest();
        check_loads(2, "an unknown flag of a page");
    }
}

static void unknown_flag_behind_pages_that_stay(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    stays("pc.bios", 0, FULL_PAGE);
    both(8, HOOK);
    rest();
    check_loads(1, "an unknown flag of a page");
}

static void unknown_flag_before_any_page(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    both(8, HOOK);
    stays("vga.vram", 0, FULL_PAGE);
    rest();
    check_loads(0, "an unknown flag of a page");
}

static void flag_of_a_later_qemu(void **state) {
    (void)state;
    for (unsigned flag = 1; flag < PAGE; flag <<= 1) {
        if (flag == ZERO || flag == FULL_PAGE || flag == CONTINUE || flag == XBZRLE || flag == COMPRESS) {
            continue;
        }
        begin(false);
        list(false);
        header(PART, RAM, NULL);
        goes("vga.vram", 0, ZERO);
        kept("vga.vram", 0, ZERO);
        both(8, 3 * PAGE | FULL_PAGE | flag);
        for (unsigned i = 0; i < PAGE / 8; i++) {
            both(8, UINT64_C(0x0101010101010101) * i);
        }
        check(1, "an unknown flag of a page");
    }
}

static void another_section_meanwhile(void **state) {
    (void)state;
    for (unsigned type = START; type <= FULL; type += FULL - START) {
        begin(true);
        list(true);
        header(PART, RAM, NULL);
        stays("pc.bios", 0, FULL_PAGE);
        goes("vga.vram", 0, FULL_PAGE);
        goes(NULL, 1, FULL_PAGE);
        records_end(RAM);
        kept_in_part("vga.vram", 1, FULL_PAGE);
        odd(type);
        header(PART, RAM, NULL);
        rest();
        check_loads(2, type == START ? "another section than that of RAM" : "an unknown section");
    }
}

static void another_section_before_ram(void **state) {
    (void)state;
    for (unsigned type = START; type <= FULL; type += FULL - START) {
        begin(true);
        odd(type);
        list(true);
        header(PART, RAM, NULL);
        stays("vga.vram", 0, FULL_PAGE);
        rest();
        check_loads(0, type == START ? "another section than that of RAM" : "an unknown section");
    }
}

/* PART of a section of which nobody has seen the start. */
static void part_of_another_section(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    records_end(RAM);
    kept_in_part("vga.vram", 0, FULL_PAGE);
    header(PART, 77, NULL);
    stays(NULL, 1, FULL_PAGE);
    check(1, "another section than that of RAM");
}

static void unknown_command(void **state) {
    (void)state;
    static const unsigned commands[] = { 0, 3, 4, 7, 8, 10, 12, 0x100 };
    for (size_t i = 0; i < COUNT(commands); i++) {
        begin(true);
        list(true);
        header(PART, RAM, NULL);
        goes("vga.vram", 0, FULL_PAGE);
        records_end(RAM);
        kept_in_part("vga.vram", 0, FULL_PAGE);
        command(commands[i], 4);
        header(PART, RAM, NULL);
        rest();
        check_loads(1, "an unknown command");
    }
}

static void no_footer(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    kept("vga.vram", 0, FULL_PAGE);
    both(8, EOS);
    header(PART, RAM, NULL);
    rest();
    check(1, "no footer");
    begin(true); /* of another section */
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    kept("vga.vram", 0, FULL_PAGE);
    records_end(RAM + 1);
    rest();
    check(1, "no footer");
}

static void heads_that_are_not_known(void **state) {
    (void)state;
    in.size = want.size = 0;
    both(8, UINT64_C(0x5145564d00000004));
    list(true);
    check(0, "another magic or version");
    in.size = 8;
    in.data[7] = 3;
    want = in;
    list(true);
    check(0, "no configuration");
    in.size = want.size = 8;
    both(1, 7);
    both(4, 256);
    list(true);
    check(0, "the machine's name is long");
    static const struct {
        const char *name;
        uint32_t version, value;
        const char *why;
    } subsections[] = {
        { "configuration/target-page-bits", 1, 13, "an unknown subsection of the configuration" },
        { "configuration/target-page-bits", 2, 12, "an unknown subsection of the configuration" },
        { "configuration/capabilities", 2, 0, "an unknown subsection of the configuration" },
        { "configuration/new", 1, 0, "an unknown subsection of the configuration" },
    };
    for (size_t i = 0; i < COUNT(subsections); i++) {
        begin(true);
        subsection(subsections[i].name, subsections[i].version, subsections[i].value);
        list(true);
        header(PART, RAM, NULL);
        stays("vga.vram", 0, FULL_PAGE);
        rest();
        check(0, subsections[i].why);
    }
    begin(false);
    subsection("configuration/capabilities", 1, 2);
    both_text("x-ignore-shared");
    both_text("mapped-ram");
    list(true);
    header(PART, RAM, NULL);
    stays("vga.vram", 0, FULL_PAGE);
    rest();
    check(0, "an unknown capability");
}

static void ram_that_is_not_known(void **state) {
    (void)state;
    begin(true);
    both(1, START);
    both(4, RAM);
    both_text("ram");
    both(4, 0);
    both(4, 5);
    stays("vga.vram", 0, FULL_PAGE);
    check(0, "another version of RAM");
    begin(true);
    header(START, RAM, "ram");
    stays("vga.vram", 0, FULL_PAGE); /* before the list */
    rest();
    check(0, "no list of blocks");
    begin(true);
    header(START, RAM, "ram");
    both(8, 16 * PAGE | MEM_SIZE);
    both_text("vga.vram");
    both(8, 17 * PAGE);
    both(8, 0);
    records_end(RAM);
    check(0, "blocks that are larger than all of them");
    begin(true);
    list(true);
    list(true);
    header(PART, RAM, NULL);
    stays("vga.vram", 0, FULL_PAGE);
    rest();
    check_loads(0, "another section than that of RAM");
}

static void pages_that_make_no_sense(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    stays(NULL, 0, FULL_PAGE);
    rest();
    check(0, "a page of no block");
    static const struct {
        unsigned kind;
        size_t size;
        uint64_t length;
    } lengths[] = {
        { COMPRESS, 4, 4353 }, { COMPRESS, 4, UINT32_MAX }, { XBZRLE, 3, 1 << 16 | 4097 }, { XBZRLE, 3, 2 << 16 | 4 }
    };
    for (size_t i = 0; i < COUNT(lengths); i++) {
        begin(true);
        list(true);
        header(PART, RAM, NULL);
        goes("vga.vram", 0, FULL_PAGE);
        kept("vga.vram", 0, FULL_PAGE);
        both(8, 4 * PAGE | lengths[i].kind);
        both_text("0000:00:03.0/rom");
        both(lengths[i].size, lengths[i].length);
        stays(NULL, 5, FULL_PAGE);
        check(1, "a page of no known length");
    }
}

/* The longest that may be: one byte more would not fit where it is kept. */
static void longest_record(void **state) {
    (void)state;
    char name[256];
    memset(name, 'v', 255);
    memcpy(name + 251, "vram", 5);
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    for (int i = 0; i < 2; i++) {
        struct bytes *b = i == 0 ? &in : &want;
        add_int(b, 8, COMPRESS);
        add_text(b, name);
        add_int(b, 4, 4352);
        for (unsigned j = 0; j < 4352 / 8; j++) {
            add_int(b, 8, j);
        }
    }
    both(8, HOOK);
    rest();
    check_loads(1, "an unknown flag of a page");
}

/* A change on top of a page that was left out can be neither let through nor trusted to be the last. */
static void changes_of_carried_pages(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    size_t good = in.size;
    goes(NULL, 0, XBZRLE);
    for (int named = 0; named < 2; named++) {
        struct vmm_filter *f = filter_of(is_carried);
        struct error err = { 0 };
        got.size = 0;
        assert_refused(f->ops->feed(f, in.data, in.size, &sink, &err), &err, ERROR_VMM, "xbzrle");
        is_same(&got, &want);
        f->ops->close(f);
        in.size = good; /* next, one that names its block */
        goes("vga.vram", 0, XBZRLE);
    }
}

/* Where it breaks off within what has not been decided on, that much goes on as it is. */
static void is_wanted_but_for_its_end(void) {
    size_t same = 0;
    while (same < got.size && same < want.size && got.data[same] == want.data[same]) {
        same++;
    }
    size_t end = got.size - same;
    assert_true(end <= in.size && end < 300);
    assert_memory_equal(got.data + same, in.data + in.size - end, end);
}

static void streams_that_break_off(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    stays("pc.bios", 0, ZERO);
    goes("vga.vram", 0, ZERO);
    stays("pc.bios", 0, ZERO);
    records_end(RAM);
    size_t whole = in.size;
    for (in.size = 0; in.size < whole; in.size++) {
        struct vmm_filter *f = feed(is_never_carried, in.size % 7);
        is_same(&got, &in);
        f->ops->close(f);
        f = feed(is_carried, in.size % 7);
        is_wanted_but_for_its_end();
        f->ops->close(f);
    }
}

static unsigned takes_left;

static int take_some(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    if (takes_left == 0) {
        return error_set(err, ERROR_LINK, "it takes no more");
    }
    takes_left--;
    return take(opaque, data, size, err);
}

static void sink_that_fails(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    goes("vga.vram", 0, FULL_PAGE);
    kept("vga.vram", 0, FULL_PAGE);
    both(8, HOOK);
    rest();
    const struct vmm_sink some = { .take = take_some, .opaque = &got };
    for (unsigned takes = 0; takes < 3; takes++) { /* what was before the page; the page; the rest */
        struct vmm_filter *f = filter_of(is_carried);
        struct error err = { 0 };
        got.size = 0;
        takes_left = takes;
        assert_refused(f->ops->feed(f, in.data, in.size, &some, &err), &err, ERROR_LINK, "no more");
        assert_true(got.size < want.size);
        assert_memory_equal(got.data, want.data, got.size);
        f->ops->close(f);
    }
}

/* What passes is not copied: it lies in the sink as it lay in the input. */
static const uint8_t *lies_from, *lies_to;
static uint64_t in_place;

static int take_in_place(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    if (data >= lies_from && data < lies_to) {
        in_place += size;
    }
    return take(opaque, data, size, err);
}

static void passes_without_a_copy(void **state) {
    (void)state;
    begin(true);
    list(true);
    header(PART, RAM, NULL);
    stays("pc.bios", 0, FULL_PAGE);
    for (unsigned i = 1; i < 100; i++) {
        stays(NULL, i, FULL_PAGE);
    }
    records_end(RAM);
    const struct vmm_sink place = { .take = take_in_place, .opaque = &got };
    struct vmm_filter *f = filter_of(is_carried);
    struct error err = { 0 };
    got.size = 0;
    in_place = 0;
    for (size_t at = 0; at < in.size; at += 65536) {
        size_t n = in.size - at < 65536 ? in.size - at : 65536;
        lies_from = in.data + at;
        lies_to = lies_from + n;
        assert_ok(f->ops->feed(f, in.data + at, n, &place, &err) == 0, &err);
    }
    f->ops->close(f);
    is_same(&got, &want);
    assert_in_range(got.size - in_place, 0, 7 * 320);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_left_out),
        cmocka_unit_test(nothing_behind_ram_is_looked_at),
        cmocka_unit_test(known_commands_and_subsections),
        cmocka_unit_test(unknown_flag_behind_pages_that_were_left_out),
        cmocka_unit_test(unknown_flag_behind_pages_that_stay),
        cmocka_unit_test(unknown_flag_before_any_page),
        cmocka_unit_test(flag_of_a_later_qemu),
        cmocka_unit_test(another_section_meanwhile),
        cmocka_unit_test(another_section_before_ram),
        cmocka_unit_test(part_of_another_section),
        cmocka_unit_test(unknown_command),
        cmocka_unit_test(no_footer),
        cmocka_unit_test(heads_that_are_not_known),
        cmocka_unit_test(ram_that_is_not_known),
        cmocka_unit_test(pages_that_make_no_sense),
        cmocka_unit_test(longest_record),
        cmocka_unit_test(changes_of_carried_pages),
        cmocka_unit_test(streams_that_break_off),
        cmocka_unit_test(sink_that_fails),
        cmocka_unit_test(passes_without_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
