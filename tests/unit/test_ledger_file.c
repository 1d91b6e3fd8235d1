/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger's file: its lock, what is found after a crash, what is not believed, a full disk. */
#include "../../src/ledger/internal.h"
#include "host/process.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char run[300]; /* GODWIT_RUN */

static uint64_t start_of(pid_t pid) {
    uint64_t ticks;
    struct error err = { 0 };
    assert_ok(process_start_time(pid, &ticks, &err) == 0, &err);
    return ticks;
}

/* Our own process plays the VMM. */
static struct ledger *take(struct error *err) {
    return ledger_open(getpid(), start_of(getpid()), err);
}

static struct ledger *take_ok(void) {
    struct error err = { 0 };
    struct ledger *l = take(&err);
    assert_ok(l != NULL, &err);
    return l;
}

static const char *file_path(void) {
    static char path[400];
    snprintf(path, sizeof(path), "%s/%d-%" PRIu64, run, (int)getpid(), start_of(getpid()));
    return path;
}

static bool exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

/* An engine that takes the guest, does something to it, and is killed. */
static void play_engine(void (*play)(struct ledger *l)) {
    pid_t vmm = getpid(), pid = fork();
    if (pid == 0) {
        struct error err = { 0 };
        uint64_t start;
        struct ledger *l = process_start_time(vmm, &start, &err) < 0 ? NULL : ledger_open(vmm, start, &err);
        if (l == NULL) {
            _exit(1);
        }
        play(l);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void dies_in_the_hand_over(struct ledger *l) {
    struct error err = { 0 };
    ledger_begin(l, LEDGER_AT_SOURCE);
    char *file = ledger_add(l, LEDGER_FILE, 16, &err);
    memcpy(file, "/a/path", 8);
    ledger_set(file, true);
    ledger_move(l, LEDGER_NOBODY, &err);
}

static void what_a_dead_engine_did_is_found(void **state) {
    (void)state;
    play_engine(dies_in_the_hand_over);
    struct ledger *l = take_ok();
    assert_true(ledger_was_left(l));
    assert_int_equal(ledger_side(l), LEDGER_AT_SOURCE);
    assert_int_equal(ledger_owner(l), LEDGER_NOBODY);
    const char *file = ledger_next(l, LEDGER_FILE, 16, NULL);
    assert_true(file != NULL && ledger_is_set(file));
    assert_string_equal(file, "/a/path");
    ledger_close(l, true); /* still of interest */
    l = take_ok();
    assert_true(ledger_was_left(l));
    ledger_begin(l, LEDGER_AT_DESTINATION);
    assert_false(ledger_was_left(l));
    assert_int_equal(ledger_owner(l), LEDGER_SOURCE);
    ledger_close(l, true);
    assert_false(exists(file_path()));
}

static void only_takes_it(struct ledger *l) {
    (void)l;
}

/* Killed before it has recorded anything: nothing was done. */
static void an_engine_that_did_nothing_leaves_nothing(void **state) {
    (void)state;
    play_engine(only_takes_it);
    struct ledger *l = take_ok();
    assert_false(ledger_was_left(l));
    ledger_close(l, true);
    assert_false(exists(file_path()));
}

static void the_file_goes_when_nobody_wants_it(void **state) {
    (void)state;
    struct error err = { 0 };
    struct ledger *l = take_ok();
    struct stat s;
    assert_string_equal(ledger_path(l), file_path());
    assert_int_equal(stat(file_path(), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0600);
    assert_true((size_t)s.st_blocks * 512 >= LEDGER_SIZE); /* all of it is there before anything is done */
    assert_int_equal(stat(run, &s), 0);
    assert_int_equal(s.st_mode & 07777, 0700);
    ledger_begin(l, LEDGER_AT_DESTINATION);
    assert_ok(ledger_move(l, LEDGER_NOBODY, &err) == 0 && ledger_move(l, LEDGER_DESTINATION, &err) == 0, &err);
    ledger_note_ran(l);
    ledger_close(l, true);
    assert_true(exists(file_path())); /* that the guest ran here is of interest for as long as its VMM lives */
    l = take_ok();
    ledger_begin(l, LEDGER_AT_SOURCE);
    ledger_close(l, false);
    assert_true(exists(file_path()));
    ledger_close(take_ok(), true);
    assert_false(exists(file_path()));
}

static void two_engines_are_one_too_many(void **state) {
    (void)state;
    struct error err = { 0 };
    struct ledger *l = take_ok();
    assert_null(take(&err));
    expect_error(&err, ERROR_REFUSED, "another godwit works on this guest", "take");
    ledger_close(l, true);
    l = take_ok();
    /* a forked process keeps it */
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) < 0);
    }
    close(gate[0]);
    ledger_begin(l, LEDGER_AT_SOURCE);
    ledger_close(l, false);
    assert_null(take(&err));
    expect_error(&err, ERROR_REFUSED, "another godwit works on this guest", "take");
    close(gate[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    ledger_close(take_ok(), true);
}

/* Many engines at once, each of which gives it up at once: never two have it, and none meets a file that was removed.
 */
static void taking_and_giving_up_race(void **state) {
    (void)state;
    pid_t vmm = getpid(), pids[4];
    uint64_t start = start_of(vmm);
    for (size_t i = 0; i < COUNT(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            int bad = 0;
            for (int k = 0; k < 200; k++) {
                struct error err = { 0 };
                struct ledger *l = ledger_open(vmm, start, &err);
                bad |= l == NULL && strstr(err.desc, "another godwit") == NULL;
                if (l != NULL) {
                    ledger_begin(l, LEDGER_AT_SOURCE);
                    bad |= access(ledger_path(l), F_OK) != 0;
                    ledger_close(l, true);
                }
            }
            _exit(bad);
        }
    }
    for (size_t i = 0; i < COUNT(pids); i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_false(exists(file_path()));
}

/* Lets `spoil` loose on the record of an engine that died, and then reads it. */
static void expect_unbelieved(void (*spoil)(struct record *r), const char *text) {
    struct error err = { 0 };
    play_engine(dies_in_the_hand_over);
    static char bytes[LEDGER_SIZE];
    int fd = open(file_path(), O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    spoil((struct record *)(uintptr_t)bytes);
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    close(fd);
    for (int i = 0; i < 2; i++) { /* to look at it does not make it better */
        assert_null(take(&err));
        assert_non_null(strstr(err.desc, file_path()));
        expect_error(&err, ERROR_REFUSED, text, "take");
    }
    unlink(file_path());
}

static struct entry *first_entry(struct record *r) {
    return (struct entry *)((uintptr_t)r + HEAD_SIZE);
}

static void is_text(struct record *r) {
    memset(r, 'x', LEDGER_SIZE);
}
static void is_newer(struct record *r) {
    r->version = LEDGER_VERSION + 1;
}
static void has_other_size(struct record *r) {
    r->size--;
}
static void is_of_another(struct record *r) {
    r->pid++;
}
static void is_of_an_earlier(struct record *r) {
    r->start--;
}
static void has_no_side(struct record *r) {
    r->side = 2;
}
static void has_no_owner(struct record *r) {
    r->owner = 3;
}
static void ends_in_its_head(struct record *r) {
    r->used = HEAD_SIZE - 8;
}
static void ends_behind_its_end(struct record *r) {
    r->used = LEDGER_SIZE + 8;
}
static void ends_in_an_entry(struct record *r) {
    r->used -= 8;
}
static void ends_with_half_a_head(struct record *r) {
    r->used += 8;
}
static void has_a_long_entry(struct record *r) {
    first_entry(r)->size = UINT32_MAX - 7;
}
static void has_an_odd_entry(struct record *r) {
    first_entry(r)->size = 15;
}
static void has_an_entry_of_no_kind(struct record *r) {
    first_entry(r)->kind = 0;
}

static void what_makes_no_sense_is_not_believed(void **state) {
    (void)state;
    expect_unbelieved(is_text, "is no ledger");
    expect_unbelieved(is_newer, "another version of godwit (version 2 of ledgers, this one reads 1)");
    void (*const damages[])(struct record *) = {
        has_other_size,        is_of_another,    is_of_an_earlier,    has_no_side,
        has_no_owner,          ends_in_its_head, ends_behind_its_end, ends_in_an_entry,
        ends_with_half_a_head, has_a_long_entry, has_an_odd_entry,    has_an_entry_of_no_kind,
    };
    for (size_t i = 0; i < COUNT(damages); i++) {
        expect_unbelieved(damages[i], "is damaged");
    }
}

static void a_short_file_is_not_believed(void **state) {
    (void)state;
    struct error err = { 0 };
    const off_t sizes[] = { 8, HEAD_SIZE, LEDGER_SIZE - 1 };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        play_engine(dies_in_the_hand_over);
        assert_int_equal(truncate(file_path(), sizes[i]), 0);
        for (int k = 0; k < 2; k++) {
            assert_null(take(&err));
            expect_error(&err, ERROR_REFUSED, "is damaged", "take");
        }
        unlink(file_path());
    }
    /* its maker was killed before it wrote anything */
    for (off_t size = 0; size < 100; size += 99) {
        int fd = open(file_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, size), 0);
        close(fd);
        struct ledger *l = take_ok();
        assert_false(ledger_was_left(l));
        ledger_close(l, true);
    }
}

/* Process ids and start times begin anew with each boot. */
static void a_record_of_an_earlier_boot_says_nothing(void **state) {
    (void)state;
    play_engine(dies_in_the_hand_over);
    int fd = open(file_path(), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "another", 7, offsetof(struct record, boot)), 7);
    close(fd);
    struct ledger *l = take_ok();
    assert_false(ledger_was_left(l));
    assert_int_equal(ledger_owner(l), LEDGER_SOURCE);
    assert_false(ledger_has_work(l));
    ledger_close(l, true);
}

static void what_others_can_write_is_not_used(void **state) {
    (void)state;
    struct error err = { 0 };
    ledger_close(take_ok(), true);
    char other[400];
    snprintf(other, sizeof(other), "%s.other", run);
    int fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(symlink(other, file_path()), 0);
    assert_null(take(&err));
    expect_error(&err, ERROR_SYSTEM, "cannot open the ledger", "take");
    unlink(file_path());
    assert_int_equal(link(other, file_path()), 0);
    assert_null(take(&err));
    expect_error(&err, ERROR_REFUSED, "2 names", "take");
    unlink(file_path());
    assert_int_equal(mkfifo(file_path(), 0600), 0);
    assert_null(take(&err));
    assert_true(error_is_set(&err));
    error_clear(&err);
    unlink(file_path());
    fd = open(file_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fchmod(fd, 0620);
    close(fd);
    assert_null(take(&err));
    expect_error(&err, ERROR_REFUSED, "is no ledger of ours", "take");
    unlink(file_path());
    chmod(run, 0755);
    assert_null(take(&err));
    expect_error(&err, ERROR_REFUSED, "must belong to user", "take");
    chmod(run, 0700);
    if (geteuid() == 0) {
        assert_int_equal(chown(run, 12345, 0), 0);
        assert_null(take(&err));
        expect_error(&err, ERROR_REFUSED, "owner 12345", "take");
        assert_int_equal(chown(run, 0, 0), 0);
    }
    unlink(other);
    assert_int_equal(rename(run, other), 0);
    assert_int_equal(symlink(other, run), 0);
    assert_null(take(&err));
    expect_error(&err, ERROR_SYSTEM, "cannot open the directory", "take");
    unlink(run);
    rename(other, run);
    ledger_close(take_ok(), true);
}

/* A VMM that has ended, and what its engine left; one that lives; what is not ours. */
static void records_of_dead_vmms_go(void **state) {
    (void)state;
    struct error err = { 0 };
    char dead_path[400], stranger[400], held_path[400];
    pid_t held = fork();
    if (held == 0) {
        pause();
    }
    pid_t dead = fork();
    if (dead == 0) {
        pause();
    }
    struct ledger *l = ledger_open(dead, start_of(dead), &err), *h = ledger_open(held, start_of(held), &err);
    assert_ok(l != NULL && h != NULL, &err);
    snprintf(dead_path, sizeof(dead_path), "%s", ledger_path(l));
    snprintf(held_path, sizeof(held_path), "%s", ledger_path(h));
    snprintf(stranger, sizeof(stranger), "%s/%d-1", run, (int)dead);
    ledger_begin(l, LEDGER_AT_SOURCE);
    assert_ok(ledger_move(l, LEDGER_NOBODY, &err) == 0, &err);
    ledger_close(l, true);
    close(open(stranger, O_RDWR | O_CREAT | O_CLOEXEC, 0600)); /* empty: who knows */
    ledger_close(take_ok(), true);
    assert_true(exists(dead_path));
    kill(dead, SIGKILL);
    waitpid(dead, NULL, 0);
    kill(held, SIGKILL);
    waitpid(held, NULL, 0);
    ledger_close(take_ok(), true);
    assert_false(exists(dead_path));
    assert_true(exists(stranger));
    assert_true(exists(held_path)); /* somebody still holds it */
    unlink(stranger);
    ledger_close(h, true);
    unlink(held_path);
}

static void fill_disk(void) {
    char path[400];
    snprintf(path, sizeof(path), "%s/filler", run);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, run, sizeof(run)) > 0) {
    }
    close(fd);
}

/* In a mount namespace of its own: 0 when all is as it should be, 77 where it can't be tried. */
static int try_full_disk(pid_t vmm, uint64_t start) {
    struct error err = { 0 };
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", run, "tmpfs", 0, "size=128k,mode=0700") < 0) {
        return 77;
    }
    struct ledger *l = ledger_open(vmm, start, &err);
    if (l == NULL) {
        return 1;
    }
    ledger_begin(l, LEDGER_AT_SOURCE);
    fill_disk();
    /* all that it needs was allocated before */
    if (ledger_add(l, LEDGER_TEXT, LEDGER_SIZE / 2, &err) == NULL || ledger_move(l, LEDGER_NOBODY, &err) < 0) {
        return 2;
    }
    ledger_begin(l, LEDGER_AT_SOURCE);
    ledger_close(l, true);
    fill_disk();
    l = ledger_open(vmm, start, &err);
    if (l != NULL || strstr(err.desc, "no room for the ledger") == NULL || strstr(err.desc, "No space") == NULL) {
        return 3;
    }
    char path[400];
    snprintf(path, sizeof(path), "%s/%d-%" PRIu64, run, (int)vmm, start);
    return exists(path) ? 4 : 0;
}

static void a_full_disk_is_known_before_anything_is_done(void **state) {
    (void)state;
    ledger_close(take_ok(), true); /* makes the directory */
    pid_t vmm = getpid(), pid = fork();
    if (pid == 0) {
        uint64_t start = 0;
        struct error err = { 0 };
        process_start_time(vmm, &start, &err);
        _exit(try_full_disk(vmm, start));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("no right to mount a tmpfs\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int setup(void **state) {
    if (scratch_setup(state) != 0) {
        return -1;
    }
    snprintf(run, sizeof(run), "%s/run", (const char *)*state);
    return setenv("GODWIT_RUN", run, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_dead_engine_did_is_found),
        cmocka_unit_test(an_engine_that_did_nothing_leaves_nothing),
        cmocka_unit_test(the_file_goes_when_nobody_wants_it),
        cmocka_unit_test(two_engines_are_one_too_many),
        cmocka_unit_test(taking_and_giving_up_race),
        cmocka_unit_test(what_makes_no_sense_is_not_believed),
        cmocka_unit_test(a_short_file_is_not_believed),
        cmocka_unit_test(a_record_of_an_earlier_boot_says_nothing),
        cmocka_unit_test(what_others_can_write_is_not_used),
        cmocka_unit_test(records_of_dead_vmms_go),
        cmocka_unit_test(a_full_disk_is_known_before_anything_is_done),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
