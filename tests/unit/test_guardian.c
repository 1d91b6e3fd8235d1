/* SPDX-License-Identifier: Apache-2.0 */
/* The engine is played by a child process, so that it can be killed; what the guardian does shows in shared memory. */
#include "migrate/guardian.h"

#include "ledger/ledger.h"
#include "migrate/changed_files.h"
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What all processes of a test share. */
struct seen {
    _Atomic int undone, resumed, discarded, ready;
    _Atomic int undo_failures; /* so many calls of undo fail; -1: all, and the VMM is gone */
};

static struct seen *seen;

static int fake_undo(struct vmm *vmm, bool resume, struct error *err) {
    (void)vmm;
    atomic_fetch_add(&seen->undone, 1);
    atomic_fetch_add(&seen->resumed, resume);
    int failures = atomic_load(&seen->undo_failures);
    if (failures > 0) {
        atomic_fetch_sub(&seen->undo_failures, 1);
    }
    return failures != 0 ? error_set(err, ERROR_VMM, "the VMM does not answer") : 0;
}

static int fake_discard(struct vmm *vmm, struct error *err) {
    (void)vmm;
    (void)err;
    atomic_fetch_add(&seen->discarded, 1);
    return 1;
}

static int fake_running(struct vmm *vmm, bool *running, struct error *err) {
    (void)err;
    *running = ledger_owner(vmm->ledger) == LEDGER_DESTINATION;
    return 0;
}

static const struct vmm_ops fake_ops = {
    .name = "fake", .undo = fake_undo, .discard = fake_discard, .guest_running = fake_running
};
static struct vmm fake_vmm = { .ops = &fake_ops };

static int share_memory(void **state) {
    struct error err = { 0 };
    (void)state;
    fake_vmm.ledger = ledger_open(0, 0, &err);
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return seen == MAP_FAILED ? -1 : prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphaned guardians become ours */
}

static int forget_memory(void **state) {
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    ledger_close(fake_vmm.ledger, true);
    return munmap(seen, sizeof(*seen));
}

enum behaviour {
    WORKS,
    HANDS_OVER,
    IS_DISMISSED,
    NOTES,
    HANGS,             /* silent while it has stopped the guest */
    IS_STOPPED,        /* the same, by SIGSTOP */
    BEATS,             /* has stopped it, and is not silent */
    HANGS_IDLY,        /* silent, but the guest runs freely */
    HANGS_HANDED_OVER, /* silent, and the guest is not the source's any more */
    HANGS_OVERDUE,     /* the same, and nobody waits for its word any more */
    HANGS_HAS_RUN,     /* the same, but it is known that the guest has run at the destination */
    WAS_TOLD_TO_RUN,   /* the destination's */
    WAITS,             /* the destination's, before anything was loaded */
};

/* Files, what is in them when the engine dies, and when the guardian is through. */
static const struct {
    const char *there, *then;
} noted[] = { { "50000 100000\n", "max 100000" },
              { "5000\n", "-1" },
              { "1\n", "1\n" },
              { "its operator's\n", "its operator's\n" },
              { "5\n", "5\n" } };
static char noted_at[COUNT(noted)][64];

static int write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0 ? 0 : -1;
}

/* One was changed; one was, and the second change did not come; one was put back and then changed by others; one was
 * changed by us and then by others; one is yet to be changed. */
static int make_notes(struct guardian *g) {
    struct error err = { 0 };
    bool ok = guardian_note_text(g, noted_at[0], "max 100000", "50000 100000", &err) == 0 &&
              guardian_note_text(g, noted_at[1], "-1", "5000", &err) == 0 &&
              guardian_note_text(g, noted_at[1], "-1", "2500", &err) == 0 &&
              guardian_note_text(g, noted_at[2], "2", "1", &err) == 0 &&
              guardian_note_text(g, noted_at[2], NULL, NULL, &err) == 0 &&
              guardian_note_text(g, noted_at[3], "4", "1", &err) == 0 &&
              guardian_note_text(g, noted_at[4], "5", "1", &err) == 0 &&
              guardian_note_text(g, "/nowhere/cpu.max", "3", "1", &err) == 0;
    for (size_t i = 0; ok && i < COUNT(noted); i++) {
        ok = write_text(noted_at[i], noted[i].there) == 0;
    }
    return ok ? 0 : -1;
}

static _Noreturn void engine(enum behaviour behaviour) {
    struct guardian g;
    struct error err = { 0 };
    if (guardian_start(&g, &fake_vmm, &err) < 0) {
        _exit(9);
    }
    bool destination = behaviour == WAS_TOLD_TO_RUN,
         over = behaviour == HANDS_OVER || (behaviour >= HANGS_HANDED_OVER && behaviour <= HANGS_HAS_RUN);
    if ((over || destination) && ledger_move(g.ledger, LEDGER_NOBODY, &err) < 0) {
        _exit(9);
    }
    if (destination && ledger_move(g.ledger, LEDGER_DESTINATION, &err) < 0) {
        _exit(9);
    }
    if (behaviour >= HANGS && behaviour <= HANGS_HAS_RUN && behaviour != HANGS_IDLY) {
        ledger_stand(g.ledger, LEDGER_STOPPED, true);
    }
    if (behaviour == HANGS_HAS_RUN) {
        ledger_note_ran(g.ledger);
    }
    if (over) {
        ledger_word_by(g.ledger,
                       behaviour >= HANGS_OVERDUE ? clock_now() + 500 * CLOCK_MS : clock_now() + 60 * CLOCK_S);
    }
    if (behaviour == NOTES && make_notes(&g) < 0) {
        _exit(9);
    }
    if (behaviour == IS_DISMISSED) {
        guardian_dismiss(&g);
    }
    atomic_store(&seen->ready, 1);
    if (behaviour == IS_STOPPED) {
        raise(SIGSTOP);
    }
    for (;;) {
        if (behaviour == BEATS) {
            ledger_beat(g.ledger);
        }
        clock_sleep(20 * CLOCK_MS);
    }
}

static int wait_status(pid_t pid) {
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* A process id that nobody has. */
static pid_t dead_process(void) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    return pid;
}

static pid_t start_engine(enum behaviour behaviour) {
    memset(seen, 0, sizeof(*seen));
    bool destination = behaviour == WAS_TOLD_TO_RUN || behaviour == WAITS;
    ledger_begin(fake_vmm.ledger, destination ? LEDGER_AT_DESTINATION : LEDGER_AT_SOURCE);
    /* the guardian tells people what it did: into nothing, here */
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(quiet, STDERR_FILENO);
        engine(behaviour);
    }
    close(quiet);
    WAIT_FOR(atomic_load(&seen->ready) == 1);
    return pid;
}

/* Starts an engine, kills it when it is ready, and waits for all that it leaves behind; returns the guardian's exit
 * status, or -1 when there was none. */
static int kill_engine(enum behaviour behaviour, int undo_failures) {
    fake_vmm.pid = undo_failures < 0 ? dead_process() : getpid();
    pid_t pid = start_engine(behaviour);
    atomic_store(&seen->undo_failures, undo_failures);
    assert_int_equal(atomic_load(&seen->undone), 0); /* not while the engine lives */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(WIFSIGNALED(wait_status(pid)));
    int status = -1;
    pid_t left = waitpid(-1, &status, 0);
    if (left < 0) {
        return -1;
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(waitpid(-1, NULL, 0), -1); /* that was all of them */
    return WEXITSTATUS(status);
}

static void a_killed_engine_is_undone_and_the_guest_runs(void **state) {
    (void)state;
    assert_int_equal(kill_engine(WORKS, 0), 0);
    assert_int_equal(atomic_load(&seen->undone), 1);
    assert_int_equal(atomic_load(&seen->resumed), 1);
}

static void after_the_hand_over_the_guest_stays_stopped(void **state) {
    (void)state;
    assert_int_equal(kill_engine(HANDS_OVER, 0), 0);
    assert_int_equal(atomic_load(&seen->undone), 1);
    assert_int_equal(atomic_load(&seen->resumed), 0);
}

static void a_dismissed_guardian_is_gone(void **state) {
    (void)state;
    assert_int_equal(kill_engine(IS_DISMISSED, 0), -1);
    assert_int_equal(atomic_load(&seen->undone), 0);
}

/* A VMM that hangs is asked again until it answers. */
static void a_failed_undo_is_tried_again(void **state) {
    (void)state;
    assert_int_equal(kill_engine(WORKS, 2), 0);
    assert_int_equal(atomic_load(&seen->undone), 3);
}

static void a_failed_undo_is_told(void **state) {
    (void)state;
    assert_int_equal(kill_engine(WORKS, -1), 1);
    assert_int_equal(atomic_load(&seen->undone), 1);
}

/* What hangs while the guest stands still is ended; whoever waits for the guest gets it back within the bound. */
static void a_silent_engine_is_ended(void **state) {
    (void)state;
    static const enum behaviour behaviours[] = { HANGS, IS_STOPPED };
    for (size_t i = 0; i < COUNT(behaviours); i++) {
        int64_t begin = clock_now();
        pid_t pid = start_engine(behaviours[i]);
        int status = wait_status(pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_true(clock_now() - begin >= 3 * CLOCK_S);
        assert_true(waitpid(-1, &status, 0) > 0); /* the guardian */
        assert_int_equal(status, 0);
        assert_int_equal(atomic_load(&seen->undone), 1);
        assert_int_equal(atomic_load(&seen->resumed), 1);
    }
}

/* One that beats, one whose guest runs freely, and one whose guest is not the source's any more: it is not known
 * whether it would be for the better. All at once, for it takes its time. */
static void other_engines_are_not(void **state) {
    (void)state;
    static const enum behaviour behaviours[] = { BEATS, HANGS_IDLY, HANGS_HANDED_OVER, HANGS_HAS_RUN };
    struct ledger *ledgers[COUNT(behaviours)], *own = fake_vmm.ledger;
    pid_t pids[COUNT(behaviours)];
    for (size_t i = 0; i < COUNT(behaviours); i++) {
        struct error err = { 0 };
        fake_vmm.ledger = ledgers[i] = ledger_open(0, 0, &err);
        pids[i] = start_engine(behaviours[i]);
    }
    clock_sleep(4500 * CLOCK_MS);
    for (size_t i = 0; i < COUNT(behaviours); i++) {
        assert_int_equal(waitpid(pids[i], NULL, WNOHANG), 0);
        kill(pids[i], SIGKILL);
    }
    while (waitpid(-1, NULL, 0) > 0) {
    }
    assert_int_equal(atomic_load(&seen->undone), 4);
    assert_int_equal(atomic_load(&seen->resumed), 2);
    for (size_t i = 0; i < COUNT(behaviours); i++) {
        ledger_close(ledgers[i], true);
    }
    fake_vmm.ledger = own;
}

/* Somebody has to say that it is in doubt. The guest is not let run: it was handed over. */
static void one_whose_word_is_overdue_is_ended(void **state) {
    (void)state;
    int64_t begin = clock_now();
    int status = wait_status(start_engine(HANGS_OVERDUE));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(clock_now() - begin >= 500 * CLOCK_MS);
    assert_true(waitpid(-1, &status, 0) > 0); /* the guardian */
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&seen->undone), 1);
    assert_int_equal(atomic_load(&seen->resumed), 0);
}

static void at_the_destination_nobody_runs_the_guest(void **state) {
    (void)state;
    assert_int_equal(kill_engine(WAITS, 0), 0);
    assert_int_equal(atomic_load(&seen->undone), 0);
    assert_int_equal(atomic_load(&seen->discarded), 1);
    assert_false(ledger_has_run(fake_vmm.ledger));
    /* killed behind its `cont`, before it could record it */
    assert_int_equal(kill_engine(WAS_TOLD_TO_RUN, 0), 0);
    assert_int_equal(atomic_load(&seen->undone), 0);
    assert_int_equal(atomic_load(&seen->discarded), 1);
    assert_int_equal(ledger_owner(fake_vmm.ledger), LEDGER_DESTINATION);
    assert_true(ledger_has_run(fake_vmm.ledger));
}

static bool ignores(pid_t pid, int signal_number) {
    char path[64], line[128];
    unsigned long long mask = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && sscanf(line, "SigIgn: %llx", &mask) != 1) {
    }
    fclose(file);
    return mask >> (signal_number - 1) & 1;
}

static void read_text(const char *path, char *text, int size) {
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(text, size, file) == NULL) {
        text[0] = '\0';
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* Whether we may have ourselves spared: CAP_SYS_RESOURCE. Tried in another process. */
static bool may_be_spared(void) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(write_text("/proc/self/oom_score_adj", "-1000"));
    }
    return WEXITSTATUS(wait_status(pid)) == 0;
}

static void the_guardian_is_the_last_to_go(void **state) {
    (void)state;
    char path[64], text[16] = "";
    struct guardian g;
    struct error err = { 0 };
    if (!may_be_spared()) {
        print_message("no right to lower oom_score_adj\n");
        skip();
    }
    ledger_begin(fake_vmm.ledger, LEDGER_AT_SOURCE);
    assert_ok(guardian_start(&g, &fake_vmm, &err) == 0, &err);
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)g.pid);
    WAIT_FOR((read_text(path, text, sizeof(text)), strcmp(text, "-1000\n") == 0));
    guardian_dismiss(&g);
}

static void signals_for_the_engine_do_not_end_it(void **state) {
    (void)state;
    memset(seen, 0, sizeof(*seen));
    struct guardian g;
    struct error err = { 0 };
    assert_ok(guardian_start(&g, &fake_vmm, &err) == 0, &err);
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
    WAIT_FOR(ignores(g.pid, SIGINT) && ignores(g.pid, SIGTERM) && ignores(g.pid, SIGHUP) && ignores(g.pid, SIGPIPE));
    for (size_t i = 0; i < COUNT(signals); i++) {
        assert_int_equal(kill(g.pid, signals[i]), 0);
    }
    assert_int_equal(waitpid(g.pid, NULL, WNOHANG), 0);
    pid_t pid = g.pid;
    guardian_dismiss(&g);
    assert_int_equal(kill(pid, 0), -1); /* waited for */
    assert_int_equal(atomic_load(&seen->undone), 0);
}

static void dismissing_is_safe_at_any_time(void **state) {
    (void)state;
    struct guardian g = { 0 };
    struct error err = { 0 };
    guardian_dismiss(&g);
    assert_ok(guardian_start(&g, &fake_vmm, &err) == 0, &err);
    guardian_dismiss(&g);
    guardian_dismiss(&g);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void expect_text(const char *path, const char *text) {
    char line[64] = "";
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_string_equal(line, text);
}

static void notes_are_written_back(void **state) {
    (void)state;
    char directory[] = "/tmp/godwit-unit-XXXXXX";
    assert_non_null(mkdtemp(directory));
    for (size_t i = 0; i < COUNT(noted); i++) {
        snprintf(noted_at[i], sizeof(noted_at[i]), "%s/%zu", directory, i);
    }
    assert_int_equal(kill_engine(NOTES, 0), 0);
    for (size_t i = 0; i < COUNT(noted); i++) {
        expect_text(noted_at[i], noted[i].then);
        unlink(noted_at[i]);
    }
    assert_int_equal(atomic_load(&seen->undone), 1);
    rmdir(directory);
}

static void too_many_or_too_long_notes_are_refused(void **state) {
    (void)state;
    struct guardian g = { 0 };
    struct error err = { 0 };
    char path[257], text[65];
    memset(path, 'p', 256);
    path[256] = '\0';
    memset(text, 't', 64);
    text[64] = '\0';
    ledger_begin(fake_vmm.ledger, LEDGER_AT_SOURCE);
    assert_refused(guardian_note_text(&g, "/a", "1", "0", &err), &err, ERROR_REFUSED, "there is no guardian");
    assert_ok(guardian_start(&g, &fake_vmm, &err) == 0, &err);
    assert_refused(guardian_note_text(&g, path, "1", "0", &err), &err, ERROR_REFUSED, "too long");
    assert_refused(guardian_note_text(&g, "/a", text, "0", &err), &err, ERROR_REFUSED, "too long");
    assert_refused(guardian_note_text(&g, "/a", "1", text, &err), &err, ERROR_REFUSED, "too long");
    assert_ok(guardian_note_text(&g, path + 1, text + 1, text + 1, &err) == 0, &err);
    for (int i = 1; i < CHANGED_FILES_MOST; i++) {
        snprintf(path, sizeof(path), "/%d", i);
        assert_ok(guardian_note_text(&g, path, "1", "0", &err) == 0, &err);
    }
    assert_refused(guardian_note_text(&g, "/one/more", "1", "0", &err), &err, ERROR_REFUSED, "64 files are the most");
    assert_ok(guardian_note_text(&g, "/7", "1", "2", &err) == 0, &err);
    guardian_dismiss(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_engine_is_undone_and_the_guest_runs),
        cmocka_unit_test(after_the_hand_over_the_guest_stays_stopped),
        cmocka_unit_test(a_dismissed_guardian_is_gone),
        cmocka_unit_test(a_failed_undo_is_tried_again),
        cmocka_unit_test(a_failed_undo_is_told),
        cmocka_unit_test(a_silent_engine_is_ended),
        cmocka_unit_test(other_engines_are_not),
        cmocka_unit_test(one_whose_word_is_overdue_is_ended),
        cmocka_unit_test(at_the_destination_nobody_runs_the_guest),
        cmocka_unit_test(the_guardian_is_the_last_to_go),
        cmocka_unit_test(signals_for_the_engine_do_not_end_it),
        cmocka_unit_test(dismissing_is_safe_at_any_time),
        cmocka_unit_test(notes_are_written_back),
        cmocka_unit_test(too_many_or_too_long_notes_are_refused),
    };
    return cmocka_run_group_tests(tests, share_memory, forget_memory);
}
