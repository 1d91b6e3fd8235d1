/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What was called, in order: a letter each. */
struct log {
    char text[64];
    size_t count;
};

/* A part that waits for one descriptor and one moment. */
struct part {
    struct loop *loop;
    struct loop_watch watch;
    struct loop_deadline deadline;
    struct log *log;
    char name;
    struct part *other;          /* whom `act` is done to */
    void (*act)(struct part *p); /* NULL: nothing */
    bool fails;
};

static void put(struct log *log, char c) {
    assert_true(log->count < sizeof(log->text) - 1);
    log->text[log->count++] = c;
    log->text[log->count] = '\0';
}

static int ran(void *opaque, struct error *err) {
    struct part *p = opaque;
    put(p->log, p->name);
    if (p->act != NULL) {
        p->act(p);
    }
    return p->fails ? error_set(err, ERROR_PEER, "%c fails", p->name) : 0;
}

#define PARTS 6

struct scene {
    struct loop loop;
    struct log log;
    struct part part[PARTS];
};

/* Parts 'a', 'b', …, each with an eventfd that is not ready; none is watched. */
static int setup(void **state) {
    struct scene *s = calloc(1, sizeof(*s));
    loop_init(&s->loop);
    for (int i = 0; i < PARTS; i++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_true(fd >= 0);
        struct part *p = &s->part[i];
        *p = (struct part){ .loop = &s->loop, .log = &s->log, .name = (char)('a' + i) };
        p->watch = (struct loop_watch){ .fd = fd, .ready = ran, .opaque = p };
        p->deadline = (struct loop_deadline){ .due = ran, .opaque = p };
    }
    *state = s;
    return 0;
}

static int teardown(void **state) {
    struct scene *s = *state;
    loop_close(&s->loop);
    for (int i = 0; i < PARTS; i++) {
        close(s->part[i].watch.fd);
    }
    free(s);
    return 0;
}

static void make_ready(struct part *p) {
    assert_int_equal(eventfd_write(p->watch.fd, 1), 0);
}

static void turn(struct scene *s, int64_t timeout_ns) {
    struct error err = { 0 };
    assert_ok(loop_turn(&s->loop, timeout_ns, &err) == 0, &err);
}

/* What was called since the last time. */
static void expect(struct scene *s, const char *text) {
    assert_string_equal(s->log.text, text);
    s->log = (struct log){ 0 };
}

static void what_is_ready_is_called_in_every_turn(void **state) {
    struct scene *s = *state;
    for (int i = 0; i < 3; i++) {
        loop_watch(&s->loop, &s->part[i].watch);
    }
    turn(s, 0);
    expect(s, "");
    make_ready(&s->part[2]);
    make_ready(&s->part[0]);
    turn(s, INT64_MAX);
    expect(s, "ac"); /* in the order in which they were watched */
    turn(s, 0);
    expect(s, "ac"); /* nobody has read it */
    loop_unwatch(&s->loop, &s->part[0].watch);
    loop_unwatch(&s->loop, &s->part[0].watch);
    turn(s, 0);
    expect(s, "c");
}

static void watching_twice_is_watching_once(void **state) {
    struct scene *s = *state;
    loop_watch(&s->loop, &s->part[0].watch);
    loop_watch(&s->loop, &s->part[0].watch);
    make_ready(&s->part[0]);
    turn(s, 0);
    expect(s, "a");
    loop_unwatch(&s->loop, &s->part[0].watch);
    turn(s, 0);
    expect(s, "");
}

static void room_to_write_can_be_waited_for(void **state) {
    struct scene *s = *state;
    s->part[0].watch.events = POLLOUT; /* an eventfd takes more */
    loop_watch(&s->loop, &s->part[0].watch);
    turn(s, INT64_MAX);
    expect(s, "a");
}

static void the_end_of_a_pipe_is_told(void **state) {
    struct scene *s = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct part *p = &s->part[0];
    struct loop_watch watch = { .fd = ends[0], .ready = ran, .opaque = p };
    loop_watch(&s->loop, &watch);
    turn(s, 0);
    expect(s, "");
    close(ends[1]);
    turn(s, INT64_MAX);
    expect(s, "a");
    loop_unwatch(&s->loop, &watch);
    close(ends[0]);
}

static void no_descriptor_is_never_ready(void **state) {
    struct scene *s = *state;
    struct loop_watch watch = { .fd = -1, .ready = ran, .opaque = &s->part[0] };
    loop_watch(&s->loop, &watch);
    turn(s, CLOCK_MS);
    expect(s, "");
    loop_unwatch(&s->loop, &watch);
}

static void a_closed_descriptor_is_an_error_and_no_spinning(void **state) {
    struct scene *s = *state;
    struct error err = { 0 };
    int fd = dup(s->part[0].watch.fd);
    struct loop_watch watch = { .fd = fd, .ready = ran, .opaque = &s->part[0] };
    loop_watch(&s->loop, &watch);
    close(fd);
    assert_refused(loop_turn(&s->loop, INT64_MAX, &err), &err, ERROR_SYSTEM, "is not open");
    loop_unwatch(&s->loop, &watch);
    expect(s, "");
}

static void leave_self(struct part *p) {
    loop_unwatch(p->loop, &p->watch);
    loop_disarm(p->loop, &p->deadline);
}

static void leave_other(struct part *p) {
    loop_unwatch(p->loop, &p->other->watch);
    loop_disarm(p->loop, &p->other->deadline);
}

static void leave_both(struct part *p) {
    leave_self(p);
    leave_other(p);
}

static void one_may_leave_while_it_is_called(void **state) {
    struct scene *s = *state;
    for (int i = 0; i < 4; i++) {
        loop_watch(&s->loop, &s->part[i].watch);
        make_ready(&s->part[i]);
    }
    s->part[1].act = leave_self;
    turn(s, 0);
    expect(s, "abcd");
    turn(s, 0);
    expect(s, "acd");
}

static void one_may_unwatch_those_behind_it_and_before_it(void **state) {
    struct scene *s = *state;
    for (int i = 0; i < PARTS; i++) {
        loop_watch(&s->loop, &s->part[i].watch);
        make_ready(&s->part[i]);
    }
    s->part[1].act = leave_both; /* the next one: the cursor's place */
    s->part[1].other = &s->part[2];
    s->part[4].act = leave_other; /* one that was called */
    s->part[4].other = &s->part[0];
    turn(s, 0);
    expect(s, "abdef");
    turn(s, 0);
    expect(s, "def");
}

static void leave_all(struct part *p) {
    for (struct part *each = p->other; each < p->other + PARTS; each++) {
        loop_unwatch(p->loop, &each->watch);
    }
}

static void the_first_may_unwatch_all(void **state) {
    struct scene *s = *state;
    for (int i = 0; i < PARTS; i++) {
        loop_watch(&s->loop, &s->part[i].watch);
        make_ready(&s->part[i]);
    }
    s->part[0].act = leave_all;
    s->part[0].other = s->part;
    turn(s, 0);
    expect(s, "a");
    turn(s, 0);
    expect(s, "");
    loop_watch(&s->loop, &s->part[3].watch); /* the empty list takes one again */
    turn(s, 0);
    expect(s, "d");
}

static void join_other(struct part *p) {
    loop_watch(p->loop, &p->other->watch);
}

static void rejoin(struct part *p) {
    loop_unwatch(p->loop, &p->watch);
    loop_watch(p->loop, &p->watch);
}

static void what_is_new_waits_for_the_next_turn(void **state) {
    struct scene *s = *state;
    loop_watch(&s->loop, &s->part[0].watch);
    make_ready(&s->part[0]);
    make_ready(&s->part[1]);
    s->part[0].act = join_other;
    s->part[0].other = &s->part[1];
    turn(s, 0);
    expect(s, "a");
    s->part[0].act = rejoin; /* goes to the end, and is not called twice */
    turn(s, 0);
    expect(s, "ab");
    turn(s, 0);
    expect(s, "ba");
}

static void deadlines_come_in_order_and_once(void **state) {
    struct scene *s = *state;
    int64_t now = clock_now();
    loop_arm(&s->loop, &s->part[0].deadline, now - 1);
    loop_arm(&s->loop, &s->part[1].deadline, now - 3);
    loop_arm(&s->loop, &s->part[2].deadline, now - 2);
    loop_arm(&s->loop, &s->part[3].deadline, now - 3); /* behind its equal */
    loop_arm(&s->loop, &s->part[4].deadline, now + 3600 * CLOCK_S);
    turn(s, INT64_MAX);
    expect(s, "bdca");
    turn(s, 0);
    expect(s, "");
}

static void a_deadline_ends_the_wait(void **state) {
    struct scene *s = *state;
    int64_t at = clock_now() + 20 * CLOCK_MS;
    loop_arm(&s->loop, &s->part[0].deadline, at);
    turn(s, INT64_MAX);
    expect(s, "a");
    assert_true(clock_now() >= at);
    assert_true(clock_now() < at + 20 * CLOCK_S);
}

static void a_deadline_can_be_moved_and_taken_back(void **state) {
    struct scene *s = *state;
    int64_t now = clock_now();
    for (int i = 0; i < 4; i++) {
        loop_arm(&s->loop, &s->part[i].deadline, now - 10 + i);
    }
    loop_arm(&s->loop, &s->part[0].deadline, now - 5);
    loop_arm(&s->loop, &s->part[1].deadline, now + 3600 * CLOCK_S);
    loop_arm(&s->loop, &s->part[2].deadline, INT64_MAX);
    loop_disarm(&s->loop, &s->part[4].deadline); /* never armed */
    turn(s, 0);
    expect(s, "da");
}

static void the_timeout_ends_the_wait(void **state) {
    struct scene *s = *state;
    loop_watch(&s->loop, &s->part[0].watch);
    loop_arm(&s->loop, &s->part[1].deadline, clock_now() + 3600 * CLOCK_S);
    int64_t begin = clock_now();
    turn(s, 5 * CLOCK_MS);
    assert_true(clock_now() - begin >= 5 * CLOCK_MS);
    turn(s, -1);
    turn(s, INT64_MIN);
    expect(s, "");
}

static void again_in_the_past(struct part *p) {
    loop_arm(p->loop, &p->deadline, 0);
}

static void a_deadline_that_arms_itself_waits_for_the_next_turn(void **state) {
    struct scene *s = *state;
    s->part[0].act = again_in_the_past;
    loop_arm(&s->loop, &s->part[0].deadline, 1);
    loop_arm(&s->loop, &s->part[1].deadline, 2); /* is not shut out by it */
    turn(s, INT64_MAX);
    expect(s, "ab");
    turn(s, INT64_MAX);
    expect(s, "a");
}

static void a_deadline_may_disarm_the_next(void **state) {
    struct scene *s = *state;
    s->part[0].act = leave_other;
    s->part[0].other = &s->part[1];
    for (int i = 0; i < 3; i++) {
        loop_arm(&s->loop, &s->part[i].deadline, 1 + i);
    }
    turn(s, 0);
    expect(s, "ac");
}

static void what_is_ready_comes_before_what_is_due(void **state) {
    struct scene *s = *state;
    loop_arm(&s->loop, &s->part[0].deadline, 1);
    loop_watch(&s->loop, &s->part[1].watch);
    make_ready(&s->part[1]);
    s->part[1].act = leave_other; /* an answer that comes at the last moment has come */
    s->part[1].other = &s->part[0];
    turn(s, 0);
    expect(s, "b");
}

static void an_error_ends_the_turn(void **state) {
    struct scene *s = *state;
    struct error err = { 0 };
    for (int i = 0; i < 3; i++) {
        loop_watch(&s->loop, &s->part[i].watch);
        make_ready(&s->part[i]);
    }
    loop_arm(&s->loop, &s->part[3].deadline, 1);
    s->part[1].fails = true;
    assert_refused(loop_turn(&s->loop, 0, &err), &err, ERROR_PEER, "b fails");
    expect(s, "ab");
    s->part[1].fails = false;
    turn(s, 0); /* nothing was lost */
    expect(s, "abcd");
}

static void an_error_of_a_deadline_leaves_the_others(void **state) {
    struct scene *s = *state;
    struct error err = { 0 };
    loop_arm(&s->loop, &s->part[0].deadline, 1);
    loop_arm(&s->loop, &s->part[1].deadline, 2);
    s->part[0].fails = true;
    assert_refused(loop_turn(&s->loop, INT64_MAX, &err), &err, ERROR_PEER, "a fails");
    turn(s, 0);
    expect(s, "ab");
}

static void turn_inside(struct part *p) {
    struct error err = { 0 };
    assert_refused(loop_turn(p->loop, 0, &err), &err, ERROR_SYSTEM, "waits in the same loop");
}

static void a_turn_within_a_turn_is_refused(void **state) {
    struct scene *s = *state;
    s->part[0].act = turn_inside;
    loop_watch(&s->loop, &s->part[0].watch);
    make_ready(&s->part[0]);
    turn(s, 0);
    turn(s, 0); /* and the loop is as good as before */
    expect(s, "aa");
}

static void nothing(int number) {
    (void)number;
}

static _Atomic bool returned;

static void *disturb(void *opaque) {
    pthread_t target = *(pthread_t *)opaque;
    while (!atomic_load(&returned)) {
        pthread_kill(target, SIGUSR1);
        clock_sleep(CLOCK_MS);
    }
    return NULL;
}

/* A handled signal ends the wait without an error and without a call, so that its cause can be looked at. */
static void a_signal_is_no_error(void **state) {
    struct scene *s = *state;
    struct sigaction action = { .sa_handler = nothing }, before;
    sigaction(SIGUSR1, &action, &before);
    loop_watch(&s->loop, &s->part[0].watch);
    pthread_t self = pthread_self(), thread;
    atomic_store(&returned, false);
    assert_int_equal(pthread_create(&thread, NULL, disturb, &self), 0);
    struct error err = { 0 };
    int rc = loop_turn(&s->loop, INT64_MAX, &err);
    atomic_store(&returned, true);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    assert_ok(rc == 0, &err);
    expect(s, "");
}

#define MANY 300

static void there_is_no_end_of_descriptors(void **state) {
    struct scene *s = *state;
    static struct loop_watch watches[MANY];
    for (int i = 0; i < MANY; i++) { /* of one descriptor: what is counted is the watches */
        watches[i] = (struct loop_watch){ .fd = s->part[0].watch.fd, .ready = ran, .opaque = &s->part[0] };
        loop_watch(&s->loop, &watches[i]);
    }
    turn(s, 0);
    make_ready(&s->part[0]);
    for (int i = 1; i < MANY - 20; i++) {
        loop_unwatch(&s->loop, &watches[i]);
    }
    turn(s, 0);
    assert_int_equal(s->log.count, 21);
    s->log = (struct log){ 0 };
    loop_close(&s->loop);
    assert_false(watches[0].watched);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_ready_is_called_in_every_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(watching_twice_is_watching_once, setup, teardown),
        cmocka_unit_test_setup_teardown(room_to_write_can_be_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_a_pipe_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptor_is_never_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_descriptor_is_an_error_and_no_spinning, setup, teardown),
        cmocka_unit_test_setup_teardown(one_may_leave_while_it_is_called, setup, teardown),
        cmocka_unit_test_setup_teardown(one_may_unwatch_those_behind_it_and_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_may_unwatch_all, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_new_waits_for_the_next_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_come_in_order_and_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_ends_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_can_be_moved_and_taken_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_timeout_ends_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_that_arms_itself_waits_for_the_next_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_may_disarm_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_ready_comes_before_what_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_ends_the_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_of_a_deadline_leaves_the_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_turn_within_a_turn_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_is_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_no_end_of_descriptors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
