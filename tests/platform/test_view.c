/* SPDX-License-Identifier: Apache-2.0 */
/* A view turns addresses of a process into pages of blocks. */
#include "support.h"

#include "base/bits.h"
#include "view/view.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 16u

/* Memory of one process, described as two blocks: `low` is pages [0, 8) of which the guest has the first seven; `high`
 * is the rest, mapped in two halves of which the second one lies first in the process. */
struct scene {
    struct target target;
    struct vmm_ram_range ranges[3];
    struct vmm_ram blocks[2];
    struct vmm vmm;
    struct ram ram;
    struct view view;
};

static void describe(struct scene *s) {
    uint64_t page = s->target.page_size, at = target_start_address(&s->target);
    s->ranges[0] = (struct vmm_ram_range){ at, at + 8 * page, 0 };
    s->ranges[1] = (struct vmm_ram_range){ at + 12 * page, at + 16 * page, 0 };
    s->ranges[2] = (struct vmm_ram_range){ at + 8 * page, at + 12 * page, 4 * page };
    s->blocks[0] = (struct vmm_ram){ .id = "low",
                                     .guest = true,
                                     .size = 7 * page,
                                     .page_size = page,
                                     .fd = s->target.file,
                                     .ranges = &s->ranges[0],
                                     .range_count = 1 };
    s->blocks[1] = (struct vmm_ram){ .id = "high",
                                     .guest = true,
                                     .size = 8 * page,
                                     .page_size = page,
                                     .fd = s->target.file,
                                     .ranges = &s->ranges[1],
                                     .range_count = 2 };
    s->vmm = (struct vmm){ .pid = s->target.pid, .ram = s->blocks, .ram_count = 2 };
}

static void scene_begin(struct scene *s, enum tracker_kind kind) {
    struct error err = { 0 };
    describe(s);
    assert_ok(view_open(&s->view, &s->vmm, &s->ram, &err) == 0, &err);
    assert_ok(view_track(&s->view, kind, NULL, &err) == 0, &err);
}

static void scene_end(struct scene *s) {
    view_close(&s->view);
    view_close(&s->view);
    ram_free(&s->ram);
    target_end(&s->target);
}

struct text {
    char bytes[256];
    size_t length;
};

static void write_run(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct text *t = opaque;
    int n = snprintf(t->bytes + t->length, sizeof(t->bytes) - t->length, "%s%u:%llu-%llu", t->length > 0 ? " " : "",
                     block, (unsigned long long)first, (unsigned long long)end);
    t->length += (size_t)n;
    assert_true(t->length < sizeof(t->bytes));
}

static void assert_scan(struct scene *s, const char *expected) {
    struct error err = { 0 };
    struct text t = { .length = 0 };
    assert_ok(view_scan(&s->view, write_run, &t, &err) == 0, &err);
    t.bytes[t.length] = '\0';
    assert_string_equal(t.bytes, expected);
}

static void pages_of_blocks(enum tracker_kind kind) {
    struct scene s = { 0 };
    target_start(&s.target, PAGES, SMALL_PAGE);
    scene_begin(&s, kind);
    assert_int_equal(s.view.scanned_at, 0);
    assert_scan(&s, "0:0-7 1:0-4 1:4-8");
    assert_true(s.view.scanned_at > 0 && s.view.scan_time > 0);
    assert_scan(&s, "");
    target_ask(&s.target, TARGET_WRITE, 2, 1);
    target_ask(&s.target, TARGET_WRITE, 7, 1); /* in the mapping, behind the guest's memory */
    target_ask(&s.target, TARGET_WRITE, 9, 1);
    target_ask(&s.target, TARGET_WRITE, 13, 1);
    assert_scan(&s, "0:2-3 1:1-2 1:5-6");
    target_ask(&s.target, TARGET_WRITE, 6, 2);
    target_ask(&s.target, TARGET_WRITE, 7, 2); /* one run that ends behind it */
    assert_scan(&s, "0:6-7");

    struct error err = { 0 };
    target_ask(&s.target, TARGET_WRITE, 3, 1);
    assert_ok(view_scan(&s.view, NULL, NULL, &err) == 0, &err); /* nobody asks: begins anew */
    target_ask(&s.target, TARGET_WRITE, 4, 1);
    assert_scan(&s, "0:4-5");
    scene_end(&s);
}
BOTH_KINDS(pages_of_blocks)

/* What the VMM's own stream may bring to the destination too never goes as a change. */
static void blocks_that_go_whole(void **state) {
    (void)state;
    for (int way = 0; way < VMM_WAY_COUNT; way++) {
        struct scene s = { 0 };
        struct error err = { 0 };
        target_start(&s.target, PAGES, SMALL_PAGE);
        describe(&s);
        s.vmm.way = (enum vmm_way)way;
        s.blocks[0].skipped = true;
        assert_ok(view_open(&s.view, &s.vmm, &s.ram, &err) == 0, &err);
        assert_false(s.ram.blocks[0].own);
        assert_int_equal(s.ram.blocks[1].own, way == VMM_WAY_FILTER);
        scene_end(&s);
    }
}

/* The engine's pages are small ones, whatever the host's are. */
static void huge_pages(enum tracker_kind kind) {
    struct scene s = { 0 };
    target_start(&s.target, PAGES, HUGE_PAGE);
    scene_begin(&s, kind);
    assert_int_equal(s.ram.blocks[0].pages, 7 * 512);
    assert_scan(&s, "0:0-3584 1:0-2048 1:2048-4096");
    target_ask(&s.target, TARGET_WRITE, 1, 1);
    target_ask(&s.target, TARGET_WRITE, 8, 1);
    assert_scan(&s, "0:512-1024 1:2048-2560");
    scene_end(&s);
}
BOTH_KINDS(huge_pages)

/* Detached, the process is as it was and its memory can still be read; what is not tracked can be closed. */
static void detaches(enum tracker_kind kind) {
    struct scene s = { 0 };
    struct error err = { 0 };
    uint8_t page[SMALL_PAGE];
    target_start(&s.target, PAGES, SMALL_PAGE);
    target_ask(&s.target, TARGET_READ, 0, 0); /* it is up: its descriptors are all there */
    unsigned descriptors = child_count_descriptors(s.target.pid);
    scene_begin(&s, kind);
    assert_scan(&s, "0:0-7 1:0-4 1:4-8");
    view_stop_tracking(&s.view);
    view_stop_tracking(&s.view);
    assert_int_equal(child_count_descriptors(s.target.pid), descriptors);
    target_ask(&s.target, TARGET_WRITE, 5, 9);
    assert_ok(ram_read(&s.ram.blocks[0], 5, 1, page, &err) == 0, &err);
    assert_int_equal(page[0], 9);
    struct view never = VIEW_CLOSED;
    view_close(&never);
    scene_end(&s);
}
BOTH_KINDS(detaches)

/* What was given back is found by the file, and only what the destination holds counts. */
static void removed(void **state) {
    (void)state;
    struct scene s = { 0 };
    struct error err = { 0 };
    int file = file_on("tmpfs", "size=1m");
    if (file < 0) {
        SKIP("tmpfs cannot be mounted");
    }
    target_start_on(&s.target, file, PAGES, SMALL_PAGE);
    for (uint64_t page = 0; page < 6; page++) {
        target_ask(&s.target, TARGET_WRITE, page, 1);
    }
    describe(&s);
    s.vmm.ram_count = 1;
    assert_ok(view_open(&s.view, &s.vmm, &s.ram, &err) == 0, &err);
    assert_ok(view_watch_removals(&s.view, &err) == 0, &err);
    uint64_t *dirty = s.ram.blocks[0].dirty, *sent = s.ram.blocks[0].sent;
    bits_set_range(dirty, 0, 7);
    assert_ok(view_skip_holes(&s.view, &err) == 0, &err);
    assert_int_equal(dirty[0], 0x3f); /* page 6 was never written */

    dirty[0] = 0;
    sent[0] = 0x17;
    assert_ok(view_mark_removed(&s.view, &err) == 0, &err);
    assert_int_equal(dirty[0], 0);
    assert_int_equal(target_ask(&s.target, TARGET_REMOVE, 2, 2), 0);
    assert_ok(view_mark_removed(&s.view, &err) == 0, &err);
    assert_int_equal(dirty[0], 0x04); /* page 3 was never sent */
    scene_end(&s);
}

/* A guest that zeroes its memory when it is freed (init_on_free) and then gives it back relies on the zeros. On
 * hugetlbfs neither the scan nor the file knows of such a page. */
static void removed_huge(enum tracker_kind kind) {
    struct scene s = { 0 };
    struct error err = { 0 };
    if (!hugepages_reserve(PAGES)) {
        hugepages_release();
        SKIP("%u free huge pages cannot be had", PAGES);
    }
    int file = file_on("hugetlbfs", "pagesize=2M"); /* a memfd's file system tells nobody */
    if (file < 0) {
        SKIP("hugetlbfs cannot be mounted");
    }
    target_start_on(&s.target, file, PAGES, HUGE_PAGE);
    for (uint64_t page = 0; page < 6; page++) {
        target_ask(&s.target, TARGET_WRITE, page, 1);
    }
    describe(&s);
    s.blocks[0].hugetlb = s.blocks[1].hugetlb = true;
    assert_ok(view_open(&s.view, &s.vmm, &s.ram, &err) == 0, &err);
    assert_ok(view_watch_removals(&s.view, &err) == 0 && view_track(&s.view, kind, NULL, &err) == 0, &err);
    assert_scan(&s, "0:0-3584 1:0-2048 1:2048-4096");
    struct ram_block *b = &s.ram.blocks[0];
    bits_set_range(b->sent, 0, 5 * 512); /* page 5 was never sent, page 6 never written */
    assert_ok(view_mark_removed(&s.view, &err) == 0, &err);
    assert_int_equal(bits_count(b->dirty, b->pages), 0);

    target_ask(&s.target, TARGET_WRITE, 2, 0);
    assert_int_equal(target_ask(&s.target, TARGET_REMOVE, 2, 1), 0);
    assert_int_equal(target_ask(&s.target, TARGET_REMOVE, 5, 1), 0);
    assert_ok(view_scan(&s.view, NULL, NULL, &err) == 0, &err);
    assert_ok(view_mark_removed(&s.view, &err) == 0, &err);
    assert_int_equal(bits_count(b->dirty, b->pages), 512);
    assert_int_equal(bits_next_set(b->dirty, 0, b->pages), 2 * 512);
    uint8_t page[SMALL_PAGE];
    assert_ok(ram_read(b, 2 * 512, 1, page, &err) == 0, &err);
    assert_int_equal(page[0], 0);
    bits_clear_range(b->dirty, 0, b->pages);
    assert_ok(view_mark_removed(&s.view, &err) == 0, &err); /* nothing was removed since */
    assert_int_equal(bits_count(b->dirty, b->pages), 0);
    scene_end(&s);
}
BOTH_KINDS(removed_huge)

static void errors_name_the_block(void **state) {
    (void)state;
    struct scene s = { 0 };
    struct error err = { 0 };
    target_start(&s.target, PAGES, SMALL_PAGE);
    describe(&s);
    assert_ok(view_open(&s.view, &s.vmm, &s.ram, &err) == 0, &err);
    s.ranges[1].start += SMALL_PAGE / 2;
    assert_int_equal(view_track(&s.view, TRACKER_AUTO, NULL, &err), -1);
    assert_non_null(strstr(err.desc, "high"));
    scene_end(&s);
}

/* A block of memory that is private to the process: pages 8 to 15 of what it has. */
static void private_begin(struct scene *s, enum tracker_kind kind, int file) {
    struct error err = { 0 };
    char path[48];
    target_start_private(&s->target, file, PAGES, SMALL_PAGE);
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->target.pid);
    uint64_t at = target_start_address(&s->target);
    s->ranges[0] = (struct vmm_ram_range){ at, at + PAGES * SMALL_PAGE, 0 };
    s->blocks[0] = (struct vmm_ram){ .id = "private",
                                     .kind = VMM_RAM_MEMORY,
                                     .size = PAGES * SMALL_PAGE,
                                     .page_size = SMALL_PAGE,
                                     .fd = open(path, O_RDONLY | O_CLOEXEC),
                                     .origin = file,
                                     .ranges = &s->ranges[0],
                                     .range_count = 1 };
    assert_true(s->blocks[0].fd >= 0);
    s->vmm = (struct vmm){ .pid = s->target.pid, .ram = s->blocks, .ram_count = 1 };
    assert_ok(view_open(&s->view, &s->vmm, &s->ram, &err) == 0, &err);
    assert_ok(view_watch_removals(&s->view, &err) == 0, &err);
    assert_ok(view_track(&s->view, kind, NULL, &err) == 0, &err);
    assert_true(s->ram.blocks[0].own);
}

static void private_end(struct scene *s) {
    close(s->blocks[0].fd);
    scene_end(s);
}

/* As before a pass. */
static void private_scan(struct scene *s, const char *expected, const char *dirty) {
    struct error err = { 0 };
    static char text[256];
    size_t n = 0;
    uint64_t *map = s->ram.blocks[0].dirty;
    bits_clear_range(map, 0, PAGES);
    text[0] = '\0';
    assert_scan(s, expected);
    assert_ok(view_mark_removed(&s->view, &err) == 0, &err);
    for (uint64_t i = bits_next_set(map, 0, PAGES); i < PAGES; i = bits_next_set(map, i + 1, PAGES)) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u", n > 0 ? " " : "", (unsigned)i);
    }
    assert_string_equal(text, dirty);
}

static uint64_t private_word(struct scene *s, uint64_t page) {
    struct error err = { 0 };
    uint8_t bytes[RAM_PAGE_SIZE];
    uint64_t word;
    assert_ok(ram_read(&s->ram.blocks[0], page, 1, bytes, &err) == 0, &err);
    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* What was sent and is not there any more is found at every look, whoever tells; discarded before the scan, behind it,
 * and touched again. */
static void private_memory(enum tracker_kind kind) {
    struct scene s = { 0 };
    struct error err = { 0 };
    private_begin(&s, kind, -1);
    target_ask(&s.target, TARGET_FILL, 2, 4);
    private_scan(&s, "0:0-16", "");
    bits_set_range(s.ram.blocks[0].dirty, 0, PAGES);
    assert_ok(view_skip_holes(&s.view, &err) == 0, &err);
    assert_int_equal(bits_count(s.ram.blocks[0].dirty, PAGES), 4);
    bits_set_range(s.ram.blocks[0].sent, 2, 6);
    private_scan(&s, "", "");
    target_ask(&s.target, TARGET_DONTNEED, 3, 2);
    private_scan(&s, "", "3 4");
    assert_int_equal(private_word(&s, 3), 0);
    bits_clear_range(s.ram.blocks[0].sent, 3, 5);
    private_scan(&s, "", "");
    /* given back and touched again, between two scans */
    target_ask(&s.target, TARGET_DONTNEED, 5, 1);
    target_ask(&s.target, TARGET_WRITE, 5, 77);
    private_scan(&s, "0:5-6", "");
    assert_int_equal(private_word(&s, 5), 77);
    /* behind the look: read as it was, and found by the next scan */
    target_ask(&s.target, TARGET_WRITE, 9, 78);
    assert_int_equal(private_word(&s, 9), 0);
    private_scan(&s, "0:9-10", "");
    assert_int_equal(private_word(&s, 9), 78);
    private_end(&s);
}
BOTH_KINDS(private_memory)

/* A copy of zeros was never sent with content; given back it is the file's page, which is not zero. */
static void private_copies(enum tracker_kind kind) {
    struct scene s = { 0 };
    uint64_t word = 11;
    int file = memfd_create("template", MFD_CLOEXEC);
    assert_int_equal(ftruncate(file, (off_t)(PAGES * SMALL_PAGE)), 0);
    assert_int_equal(pwrite(file, &word, sizeof(word), 3 * SMALL_PAGE), sizeof(word));
    private_begin(&s, kind, file);
    target_ask(&s.target, TARGET_WRITE, 3, 0);
    private_scan(&s, "0:0-16", "");
    assert_int_equal(private_word(&s, 3), 0);
    target_ask(&s.target, TARGET_DONTNEED, 3, 1);
    private_scan(&s, "", "3");
    assert_int_equal(private_word(&s, 3), 11);
    private_end(&s);
}
BOTH_KINDS(private_copies)

#define HUGE_PAGES 8u

/* Tracking splits what is written; when the guest stays, its huge pages come back, but for one with a hole. */
static void huge_again(enum tracker_kind kind, const char *fault) {
    struct target t;
    struct error err = { 0 };
    struct huge_count n;
    setenv("GODWIT_FAULT", fault, 1);
    target_start_private(&t, -1, HUGE_PAGES * 512, SMALL_PAGE);
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_HUGEPAGE);
    target_ask(&t, TARGET_FILL, 0, 7 * 512); /* the last one nobody has touched */
    uint64_t before = child_kib(t.pid, "smaps", "AnonHugePages");
    struct huge *huge = huge_open(t.pid, &err);
    assert_ok(huge != NULL, &err);
    assert_ok(huge_note(huge, target_start_address(&t) + SMALL_PAGE, target_end_address(&t), &err) == 0, &err);
    unsetenv("GODWIT_FAULT");
    struct tracker *tracker = target_track(&t, kind);
    target_ask(&t, TARGET_WRITE, 512 + 7, 3);
    target_ask(&t, TARGET_WRITE, 2 * 512 + 7, 4);
    target_ask(&t, TARGET_DONTNEED, 3 * 512 + 100, 1);
    uint64_t split = child_kib(t.pid, "smaps", "AnonHugePages");
    tracker_close(tracker);
    huge_restore(huge, &n);
    huge_close(huge);
    uint64_t after = child_kib(t.pid, "smaps", "AnonHugePages");
    assert_int_equal(target_ask(&t, TARGET_READ, 512 + 7, 0), 3);
    assert_int_equal(target_ask(&t, TARGET_READ, 3 * 512 + 100, 0), 0);
    target_end(&t);
    if (before == 0) {
        SKIP("this host gives no transparent huge pages");
    }
    assert_int_equal(before, 7 * 2048);
    assert_int_equal(split, 4 * 2048);
    /* the first segment was not whole where noting began. Linux 6.1 refuses (EINVAL) to collapse what was protected and
     * written since; there it is khugepaged's */
    unsigned refused = has_scan() ? 0 : 2;
    if (n.noted != 6 || n.restored < 5 - refused || n.restored + n.left != 6) {
        fail_msg("of %u huge pages %u came back and %u did not", (unsigned)n.noted, (unsigned)n.restored,
                 (unsigned)n.left);
    }
    assert_int_equal(after, (1 + n.restored) * 2048);
}

static void huge_pages_again(enum tracker_kind kind) {
    huge_again(kind, "none");
    huge_again(kind, "no-pagemap-scan");
}
BOTH_KINDS(huge_pages_again)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(pages_of_blocks),
        BOTH_TESTS(private_memory),
        BOTH_TESTS(private_copies),
        BOTH_TESTS(huge_pages_again),
        BOTH_TESTS(huge_pages),
        BOTH_TESTS(detaches),
        cmocka_unit_test(blocks_that_go_whole),
        cmocka_unit_test(removed),
        BOTH_TESTS(removed_huge),
        cmocka_unit_test(errors_name_the_block),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
