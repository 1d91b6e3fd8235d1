/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is private to another process as a backing: what is read and placed, what is left untouched, what was
 * given back, and what is said when the process goes. */
#include "support.h"

#include "base/bits.h"
#include "ram/backing.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define PAGES 200u /* more than one piece of what is cleared at once */

struct scene {
    struct target target;
    int fd;
    struct backing *backing;
    atomic_bool pinned; /* its process's id is held, as far as the backing knows */
    uint64_t populated[(8 * 512) / 64], gone[(8 * 512) / 64]; /* of the last look */
};

static void open_backing(struct scene *s) {
    struct error err = { 0 };
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->target.pid);
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(s->fd >= 0);
    struct backing_memory memory = { .id = "vram",
                                     .size = s->target.pages * s->target.page_size,
                                     .page_size = s->target.page_size,
                                     .address = target_start_address(&s->target),
                                     .pid = s->target.pid,
                                     .fd = s->fd,
                                     .origin = s->target.file,
                                     .pinned = &s->pinned };
    s->backing = backing_open_memory(&memory, &err);
    assert_ok(s->backing != NULL, &err);
    assert_true(!s->backing->own && s->backing->silent && s->backing->size == memory.size);
}

static void scene_begin(struct scene *s, int file, uint64_t pages, uint64_t page_size) {
    *s = (struct scene){ .fd = -1 };
    target_start_private(&s->target, file, pages, page_size);
    open_backing(s);
}

static void scene_end(struct scene *s) {
    backing_close(s->backing);
    close(s->fd);
    target_end(&s->target);
}

/* What a look finds, as text: populated, and gone behind a bar. */
static const char *look(struct scene *s) {
    static char text[64 << 10];
    struct error err = { 0 };
    memset(s->populated, 0, sizeof(s->populated));
    memset(s->gone, 0, sizeof(s->gone));
    assert_ok(s->backing->ops->look(s->backing, s->populated, s->gone, &err) == 0, &err);
    uint64_t unit = s->target.page_size / PAGE;
    size_t n = 0;
    for (int which = 0; which < 2; which++) {
        const uint64_t *map = which == 0 ? s->populated : s->gone;
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", which == 0 ? "" : " |");
        for (uint64_t page = 0; page < s->target.pages; page++) {
            if (bits_test(map, page * unit)) {
                assert_int_equal(bits_next_clear(map, page * unit, (page + 1) * unit), (page + 1) * unit);
                n += (size_t)snprintf(text + n, sizeof(text) - n, " %u", (unsigned)page);
                assert_true(n < sizeof(text));
            }
        }
    }
    return text;
}

static uint64_t read_word(const struct scene *s, uint64_t page) {
    struct error err = { 0 };
    uint8_t bytes[PAGE];
    uint64_t word;
    memset(bytes, 0xee, sizeof(bytes));
    assert_ok(s->backing->ops->read(s->backing, page * s->target.page_size, PAGE, bytes, &err) == 0, &err);
    memcpy(&word, bytes, sizeof(word));
    return word;
}

static uint64_t read_all(const struct scene *s) {
    uint64_t sum = 0;
    for (uint64_t page = 0; page < s->target.pages; page++) {
        sum += read_word(s, page);
    }
    return sum;
}

static uint64_t rss(const struct scene *s) {
    return child_kib(s->target.pid, "status", "VmRSS") + child_kib(s->target.pid, "status", "VmPTE") +
           child_kib(s->target.pid, "status", "HugetlbPages");
}

/* ---- reading ---- */

static void holes_are_not_touched(const char *fault, bool looks) {
    struct scene s;
    setenv("GODWIT_FAULT", fault, 1);
    scene_begin(&s, -1, 4000, SMALL_PAGE);
    target_ask(&s.target, TARGET_WRITE, 3, 7);
    target_ask(&s.target, TARGET_WRITE, 3999, 8);
    uint64_t before = rss(&s);
    if (looks) {
        assert_string_equal(look(&s), " 3 3999 |");
    }
    assert_int_equal(read_all(&s), 15);
    assert_int_equal(s.backing->ops->allocated(s.backing), 2 * PAGE);
    assert_int_equal(rss(&s), before);
    /* somebody has read one: it is a hole still, where the kernel can tell, and zeros in any case */
    target_ask(&s.target, TARGET_READ, 100, 0);
    if (looks && has_scan()) {
        assert_string_equal(look(&s), " 3 3999 |");
    }
    assert_int_equal(read_all(&s), 15);
    unsetenv("GODWIT_FAULT");
    scene_end(&s);
}

static void holes(void **state) {
    (void)state;
    holes_are_not_touched("none", false);
    holes_are_not_touched("none", true);
    holes_are_not_touched("no-pagemap-scan", false);
    holes_are_not_touched("no-pagemap-scan", true);
}

/* The kernel's huge page of zeros is none of the guest's either. */
static void huge_zero_page(void **state) {
    (void)state;
    struct scene s;
    scene_begin(&s, -1, 1024, SMALL_PAGE);
    target_ask(&s.target, TARGET_ADVISE_ALL, 0, MADV_HUGEPAGE);
    target_ask(&s.target, TARGET_READ, 100, 0);
    target_ask(&s.target, TARGET_READ, 600, 0);
    const char *found = look(&s);
    print_message("two huge pages that were read:%.20s\n", found);
    assert_int_equal(read_all(&s), 0);
    scene_end(&s);
}

/* A block that is fragmented as badly as can be: thousands of runs. */
static void fragments(const char *fault) {
    struct scene s;
    setenv("GODWIT_FAULT", fault, 1);
    scene_begin(&s, -1, 4096, SMALL_PAGE);
    for (uint64_t i = 1; i < 4096; i += 2) {
        target_ask(&s.target, TARGET_WRITE, i, i);
    }
    struct error err = { 0 };
    assert_ok(s.backing->ops->look(s.backing, s.populated, s.gone, &err) == 0, &err);
    for (uint64_t i = 0; i < 4096; i++) {
        assert_int_equal(bits_test(s.populated, i), i % 2 == 1);
    }
    assert_int_equal(read_all(&s), 4096 / 2 * (4096 / 2));
    unsetenv("GODWIT_FAULT");
    scene_end(&s);
}

static void fragmented(void **state) {
    (void)state;
    fragments("none");
    fragments("no-pagemap-scan");
}

/* ---- given back ---- */

static void given_back_anonymous(const char *fault) {
    struct scene s;
    setenv("GODWIT_FAULT", fault, 1);
    scene_begin(&s, -1, 16, SMALL_PAGE);
    target_ask(&s.target, TARGET_FILL, 4, 4);
    assert_string_equal(look(&s), " 4 5 6 7 |");
    target_ask(&s.target, TARGET_DONTNEED, 5, 2);
    if (has_scan()) {
        assert_int_equal(read_word(&s, 5), 0); /* the page of zeros comes there: a hole still */
    }
    assert_string_equal(look(&s), " 4 7 | 5 6");
    assert_string_equal(look(&s), " 4 7 |");
    target_ask(&s.target, TARGET_WRITE, 6, 9);
    assert_string_equal(look(&s), " 4 6 7 |");
    assert_int_equal(read_word(&s, 6), 9);
    unsetenv("GODWIT_FAULT");
    scene_end(&s);
}

/* A file with something in pages 1 and 2, and holes. */
static int template_file(uint64_t pages, uint64_t page_size) {
    int file = memfd_create("template", MFD_CLOEXEC);
    uint64_t words[2] = { 11, 0 };
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)(pages * page_size)), 0);
    assert_int_equal(pwrite(file, &words[0], 8, (off_t)(1 * page_size)), 8);
    words[0] = 12;
    assert_int_equal(pwrite(file, &words[0], 8, (off_t)(2 * page_size)), 8);
    return file;
}

/* Copies of a file: what was not written is the file's, which is asked and not touched in the process; what was given
 * back is the file's again, though its protection may have left a marker in the page table. */
static void given_back_copies(enum tracker_kind kind) {
    struct scene s;
    for (int i = 0; i < 2; i++) {
        setenv("GODWIT_FAULT", i == 0 ? "none" : "no-pagemap-scan", 1);
        scene_begin(&s, template_file(16, PAGE), 16, SMALL_PAGE);
        unsetenv("GODWIT_FAULT");
        target_ask(&s.target, TARGET_WRITE, 2, 100);
        target_ask(&s.target, TARGET_WRITE, 5, 101); /* the kernel gives tmpfs a page of zeros for it too */
        uint64_t before = rss(&s);
        struct stat st, old;
        assert_int_equal(fstat(s.target.file, &old), 0);
        assert_string_equal(look(&s), " 1 2 5 |");
        assert_int_equal(read_all(&s), 11 + 100 + 101);
        assert_int_equal(rss(&s), before);
        assert_int_equal(fstat(s.target.file, &st), 0);
        assert_int_equal(st.st_blocks, old.st_blocks);
        struct tracker *tracker = target_track(&s.target, kind);
        assert_string_equal(look(&s), " 1 2 5 |");
        assert_int_equal(target_ask(&s.target, TARGET_DONTNEED, 2, 4), 0);
        assert_string_equal(look(&s), " 1 2 5 | 2 5");
        assert_int_equal(read_all(&s), 11 + 12);
        /* looked at by the process: the file's page, which may be protected already and then is not found written */
        target_ask(&s.target, TARGET_WRITE, 2, 102);
        assert_string_equal(look(&s), " 1 2 5 |");
        target_ask(&s.target, TARGET_DONTNEED, 2, 1);
        target_ask(&s.target, TARGET_READ, 2, 0);
        assert_string_equal(look(&s), " 1 2 5 | 2");
        assert_int_equal(read_word(&s, 2), 12);
        tracker_close(tracker);
        scene_end(&s);
    }
}
BOTH_KINDS(given_back_copies)

static void given_back(void **state) {
    (void)state;
    given_back_anonymous("none");
    given_back_anonymous("no-pagemap-scan");
}

/* Private huge pages: one that is not there costs a whole one when it is touched. */
static void huge_pages(enum tracker_kind kind) {
    struct scene s;
    for (int i = 0; i < 2; i++) {
        setenv("GODWIT_FAULT", i == 0 ? "none" : "no-pagemap-scan", 1);
        scene_begin(&s, -1, 8, HUGE_PAGE);
        unsetenv("GODWIT_FAULT");
        target_ask(&s.target, TARGET_WRITE, 2, 7);
        target_ask(&s.target, TARGET_WRITE, 5, 8);
        uint64_t before = rss(&s);
        assert_string_equal(look(&s), " 2 5 |");
        assert_int_equal(read_all(&s), 15);
        assert_int_equal(s.backing->ops->allocated(s.backing), 2 * HUGE_PAGE);
        assert_int_equal(rss(&s), before);
        struct tracker *tracker = target_track(&s.target, kind);
        assert_string_equal(look(&s), " 2 5 |");
        assert_int_equal(target_ask(&s.target, TARGET_DONTNEED, 5, 1), 0);
        look(&s);
        assert_true(bits_test(s.gone, 5 * 512)); /* whether or not it left a marker */
        assert_int_equal(read_all(&s), 7);
        target_ask(&s.target, TARGET_WRITE, 5, 9);
        assert_string_equal(look(&s), " 2 5 |");
        assert_int_equal(read_all(&s), 16);
        tracker_close(tracker);
        scene_end(&s);
    }
}
BOTH_KINDS(huge_pages)

/* ---- writing ---- */

static void places(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t pages[2 * PAGE];
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    memset(pages, 9, sizeof(pages));
    assert_ok(s.backing->ops->place(s.backing, 70 * PAGE, 2 * PAGE, pages, &err) == 0, &err);
    assert_int_equal(target_ask(&s.target, TARGET_READ, 71, 0), 0x0909090909090909);
    assert_int_equal(s.backing->ops->watch(s.backing, -1, &err), 0);
    scene_end(&s);
}

/* Zeros are written where something else is, and nowhere else: what nobody has touched stays untouched. */
static void zeros(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    target_ask(&s.target, TARGET_WRITE, 0, 7);
    target_ask(&s.target, TARGET_WRITE, 70, 7);
    target_ask(&s.target, TARGET_WRITE, 71, 7);
    target_ask(&s.target, TARGET_WRITE, PAGES - 1, 7);
    assert_ok(s.backing->ops->zero(s.backing, 70 * PAGE, 5 * PAGE, &err) == 0, &err);
    assert_int_equal(target_ask(&s.target, TARGET_READ, 70, 0), 0);
    assert_int_equal(target_ask(&s.target, TARGET_READ, 71, 0), 0);
    assert_int_equal(read_all(&s), 14); /* its neighbours are left alone */
    uint64_t before = rss(&s);
    assert_ok(s.backing->ops->make_empty(s.backing, &err) == 0, &err);
    assert_int_equal(read_all(&s), 0);
    assert_int_equal(s.backing->ops->allocated(s.backing), 4 * PAGE);
    assert_int_equal(rss(&s), before);
    scene_end(&s);
}

/* What the file holds is not zero, written or not. */
static void empty_template(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    scene_begin(&s, template_file(16, PAGE), 16, SMALL_PAGE);
    target_ask(&s.target, TARGET_WRITE, 5, 7);
    assert_ok(s.backing->ops->make_empty(s.backing, &err) == 0, &err);
    assert_int_equal(read_all(&s), 0);
    for (uint64_t i = 0; i < 16; i++) {
        assert_int_equal(target_ask(&s.target, TARGET_READ, i, 0), 0);
    }
    uint64_t word;
    assert_int_equal(pread(s.target.file, &word, 8, (off_t)PAGE), 8);
    assert_int_equal(word, 11); /* the file itself is nobody's to change */
    scene_end(&s);
}

/* The first page that is placed brings a huge one, and those behind it go there. */
static void huge_pages_come(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    const uint64_t size = 4 * HUGE_PAGE;
    scene_begin(&s, -1, size / SMALL_PAGE, SMALL_PAGE);
    atomic_store(&s.pinned, true);
    target_ask(&s.target, TARGET_ADVISE_ALL, 0, MADV_HUGEPAGE);
    assert_ok(s.backing->ops->make_empty(s.backing, &err) == 0, &err);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 3, size);
    for (uint64_t at = 0; at < size; at += 64 * PAGE) {
        assert_ok(s.backing->ops->place(s.backing, at, 64 * PAGE, bytes, &err) == 0, &err);
    }
    uint64_t huge = child_kib(s.target.pid, "smaps", "AnonHugePages");
    free(bytes);
    scene_end(&s);
    if (huge == 0) {
        SKIP("this host gives no transparent huge pages");
    }
    assert_int_equal(huge, size / 1024);
}

/* In one call where the process's id is held, and one after the other where not. */
static void here_and_there(void **state) {
    (void)state;
    static uint8_t bytes[6 * PAGE];
    const struct backing_part parts[] = { { 3 * PAGE, PAGE }, { 9 * PAGE, 3 * PAGE }, { 40 * PAGE, 2 * PAGE } };
    for (int pinned = 0; pinned < 2; pinned++) {
        struct scene s;
        struct error err = { 0 };
        scene_begin(&s, -1, PAGES, SMALL_PAGE);
        atomic_store(&s.pinned, pinned != 0);
        for (unsigned i = 0; i < 6; i++) {
            memset(bytes + i * PAGE, (int)i + 1, PAGE);
        }
        assert_ok(s.backing->ops->place_parts(s.backing, parts, 3, bytes, &err) == 0, &err);
        assert_string_equal(look(&s), " 3 9 10 11 40 41 |");
        const uint64_t word = UINT64_C(0x0101010101010101);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(read_word(&s, (const uint64_t[]){ 3, 9, 10, 11, 40, 41 }[i]), (i + 1) * word);
        }
        /* a part that is not there is named, and not passed over */
        target_ask(&s.target, TARGET_UNMAP, 10, 1);
        assert_int_equal(s.backing->ops->place_parts(s.backing, parts, 3, bytes, &err), -1);
        assert_non_null(strstr(err.desc, "mapped any more"));
        scene_end(&s);
    }
}

#define STRETCH_PAGES (HUGE_PAGE / PAGE)

/* Where a huge page may come one page is written ahead of the others (ram/first_touch.h): of stretches that end in, and
 * on, a border of huge pages each page has its own content, and what lies behind is not touched. */
static void over_a_border(bool in_parts) {
    static uint8_t bytes[8 * PAGE];
    struct scene s;
    struct error err = { 0 };
    scene_begin(&s, -1, 4 * STRETCH_PAGES, SMALL_PAGE);
    atomic_store(&s.pinned, true);
    target_ask(&s.target, TARGET_ADVISE_ALL, 0, MADV_NOHUGEPAGE);
    const uint64_t before = target_start_address(&s.target) / PAGE % STRETCH_PAGES; /* pages, of its first huge page */
    const uint64_t border = 2 * STRETCH_PAGES - before;
    const uint64_t next = border + STRETCH_PAGES;
    const struct backing_part parts[] = { { (border - 3) * PAGE, 5 * PAGE }, { (next - 2) * PAGE, 2 * PAGE } };
    for (unsigned i = 0; i < 8; i++) {
        memset(bytes + i * PAGE, (int)i + 1, PAGE);
    }
    if (in_parts) {
        assert_ok(s.backing->ops->place_parts(s.backing, parts, 2, bytes, &err) == 0, &err);
    } else {
        assert_ok(s.backing->ops->place(s.backing, parts[0].at, parts[0].size, bytes, &err) == 0, &err);
        assert_ok(s.backing->ops->place(s.backing, parts[1].at, parts[1].size, bytes + 5 * PAGE, &err) == 0, &err);
    }
    const uint64_t pages[] = { border - 3, border - 2, border - 1, border, border + 1, next - 2, next - 1 };
    look(&s);
    assert_int_equal(bits_count(s.populated, 4 * STRETCH_PAGES), sizeof(pages) / sizeof(pages[0]));
    for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        assert_int_equal(read_word(&s, pages[i]), (i + 1) * UINT64_C(0x0101010101010101));
    }
    scene_end(&s);
}

static void over_borders_of_huge_pages(void **state) {
    (void)state;
    over_a_border(false);
    over_a_border(true);
}

/* ---- a process that goes ---- */

static void memory_that_is_not_mapped_any_more(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[2 * PAGE] = { 1 };
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    target_ask(&s.target, TARGET_FILL, 0, PAGES);
    look(&s);
    target_ask(&s.target, TARGET_UNMAP, 100, 1);
    assert_int_equal(s.backing->ops->read(s.backing, 99 * PAGE, 2 * PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "does not have its memory vram mapped any more"));
    error_clear(&err);
    assert_int_equal(s.backing->ops->place(s.backing, 100 * PAGE, PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "mapped any more"));
    scene_end(&s);
}

/* It is not zeros, nor what whoever has its id now has there. */
static void a_process_that_has_ended(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[PAGE] = { 1 };
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    target_ask(&s.target, TARGET_FILL, 0, PAGES);
    kill(s.target.pid, SIGKILL);
    waitid(P_PID, (id_t)s.target.pid, NULL, WEXITED | WNOWAIT);
    uint64_t map[(PAGES + 63) / 64] = { 0 }, gone[(PAGES + 63) / 64] = { 0 };
    const struct backing_ops *ops = s.backing->ops;
    for (int looked = 0; looked < 3; looked++) {
        assert_int_equal(looked < 2 ? ops->read(s.backing, 0, PAGE, page, &err) : ops->make_empty(s.backing, &err), -1);
        assert_int_equal(err.class, ERROR_VMM);
        assert_non_null(strstr(err.desc, "has ended"));
        error_clear(&err);
        assert_int_equal(ops->look(s.backing, map, gone, &err), -1);
        error_clear(&err);
    }
    assert_int_equal(ops->place(s.backing, 0, PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "has ended"));
    error_clear(&err);
    struct backing_memory memory = { .id = "vram", .size = PAGE, .page_size = PAGE, .pid = s.target.pid, .fd = s.fd };
    assert_null(backing_open_memory(&memory, &err));
    scene_end(&s);
}

/* The id belongs to a process, but not to the one whose memory it was. */
static void an_id_of_another(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    kill(s.target.pid, SIGKILL);
    waitid(P_PID, (id_t)s.target.pid, NULL, WEXITED | WNOWAIT);
    struct backing_memory memory = { .id = "vram",
                                     .size = PAGES * PAGE,
                                     .page_size = PAGE,
                                     .address = target_start_address(&s.target),
                                     .pid = getpid(),
                                     .fd = s.fd,
                                     .origin = -1 };
    assert_null(backing_open_memory(&memory, &err));
    assert_int_equal(err.class, ERROR_VMM);
    scene_end(&s);
}

/* A process with that id, which has the same addresses; -1: this host cannot do it. */
static pid_t child_with_id(pid_t id) {
    struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&id, .set_tid_size = 1 };
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    return child;
}

/* The id has come to belong to another process since, which has something at those addresses too. */
static void an_id_that_was_given_anew(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[PAGE];
    scene_begin(&s, -1, PAGES, SMALL_PAGE);
    target_ask(&s.target, TARGET_FILL, 0, PAGES);
    look(&s);
    child_end(s.target.pid);
    uint64_t size = s.target.pages * s.target.page_size;
    assert_int_equal(mprotect(s.target.memory, size, PROT_READ | PROT_WRITE), 0);
    memset(s.target.memory, 5, size);
    s.target.pid = child_with_id(s.target.pid);
    if (s.target.pid < 0) {
        SKIP("no process can be given an id of our choice here");
    }
    assert_int_equal(s.backing->ops->read(s.backing, 0, PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "has ended"));
    assert_int_equal(s.backing->ops->place(s.backing, 0, PAGE, page, &err), -1);
    assert_int_equal(s.target.memory[0], 5);
    scene_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holes),
        cmocka_unit_test(huge_zero_page),
        cmocka_unit_test(fragmented),
        cmocka_unit_test(given_back),
        BOTH_TESTS(given_back_copies),
        BOTH_TESTS(huge_pages),
        cmocka_unit_test(places),
        cmocka_unit_test(zeros),
        cmocka_unit_test(empty_template),
        cmocka_unit_test(huge_pages_come),
        cmocka_unit_test(here_and_there),
        cmocka_unit_test(over_borders_of_huge_pages),
        cmocka_unit_test(memory_that_is_not_mapped_any_more),
        cmocka_unit_test(a_process_that_has_ended),
        cmocka_unit_test(an_id_of_another),
        cmocka_unit_test(an_id_that_was_given_anew),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
