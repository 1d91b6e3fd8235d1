/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver makes of a device's actions, with a device that does what the test says, and without the thread. */
#include "accel/internal.h"
#include "support.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEPTH 4
#define TIMEOUT CLOCK_S

/* What the device does next, and what was asked of it. */
static struct {
    bool start_fails, starts_ready;
    int submits; /* what submit() returns */
    struct accel_result answer[DEPTH];
    unsigned answers;
    bool breaks; /* reap() fails, after the answers */
    unsigned started, retired, finished;
} fake;

static int fake_start(struct accel_unit *unit, const char *path, struct error *err) {
    (void)path;
    fake.started++;
    if (fake.start_fails) {
        return error_set(err, ERROR_SYSTEM, "it is not there");
    }
    return fake.starts_ready ? unit_ready(unit, 1, DEPTH, false, err) : 0;
}

static int fake_submit(struct accel_unit *unit, const struct accel_slot *slot, struct error *err) {
    (void)unit;
    (void)slot;
    return fake.submits < 0 ? error_set(err, ERROR_SYSTEM, "it is gone") : fake.submits;
}

static int fake_reap(struct accel_unit *unit, struct error *err) {
    if (!unit->ready && unit_ready(unit, 1, DEPTH, false, err) != 0) {
        return -1;
    }
    for (unsigned i = 0; i < fake.answers; i++) {
        if (unit_result(unit, &fake.answer[i], err) != 0) {
            return -1;
        }
    }
    return fake.breaks ? error_set(err, ERROR_SYSTEM, "it broke") : 0;
}

static void fake_retire(struct accel_unit *unit) {
    (void)unit;
    fake.retired++;
}

static bool fake_finish(struct accel_unit *unit, int64_t until) {
    (void)unit;
    (void)until;
    fake.finished++;
    return true;
}

static const struct accel_ops ops = { .kind = "fake",
                                      .start = fake_start,
                                      .submit = fake_submit,
                                      .reap = fake_reap,
                                      .retire = fake_retire,
                                      .finish = fake_finish };

static struct accel a;
static struct accel_device device;
static struct accel_job job[DEPTH + 1];
static uint8_t data[4096];

static void changed(void *opaque, unsigned index, enum accel_health health, const char *why) {
    (void)opaque;
    (void)index;
    (void)health;
    (void)why;
}

static int setup(void **state) {
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.submits = 1;
    fake.starts_ready = true;
    device = (struct accel_device){ .ops = &ops };
    a = (struct accel){ .config = { .changed = changed },
                        .times = { .timeout_ns = TIMEOUT, .retry_ns = CLOCK_S },
                        .ground = { .input = { .base = data, .size = sizeof(data) },
                                    .max_job = sizeof(data),
                                    .instances = 1,
                                    .slot_size = sizeof(data) },
                        .devices = 1,
                        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .room = PTHREAD_COND_INITIALIZER,
                        .input_used = sizeof(data),
                        .device = &device,
                        .armed = NEVER };
    a.finished_tail = &a.finished;
    a.notices_tail = &a.notices;
    assert_true(a.wake_fd >= 0);
    for (size_t i = 0; i < COUNT(job); i++) {
        job[i] = (struct accel_job){ .in = data, .size = sizeof(data), .capacity = sizeof(data) };
    }
    struct error err = { 0 };
    assert_ok(driver_open(&a, &device, &err) == 0, &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unsigned started = fake.started;
    assert_true(driver_free(&device, 0));
    assert_true(fake.finished <= started && fake.finished > 0);
    for (struct accel_notice *n = a.notices, *next; n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    close(a.wake_fd);
    return 0;
}

static void submit_all(void) {
    for (size_t i = 0; i < DEPTH; i++) {
        assert_int_equal(accel_submit(&a, &job[i]), 1);
    }
}

/* That the device answers the job that it got as number `i`. */
static void will_answer(size_t i, enum accel_status status) {
    const struct accel_slot *slot = job[i].slot;
    fake.answer[fake.answers++] = (struct accel_result){
        .slot = slot->index, .serial = slot->serial, .status = status, .codec = CODEC_DEFLATE, .size = 100 + i
    };
}

/* The jobs that have ended, in that order, with these. */
static void expect_ended(size_t count, const size_t *which, const enum accel_status *how) {
    const struct accel_job *at = a.finished;
    for (size_t i = 0; i < count; i++, at = at->next) {
        assert_ptr_equal(at, &job[which[i]]);
        assert_int_equal(at->status, how[i]);
    }
    assert_null(at);
}

static bool was_woken(void) {
    uint64_t count;
    return read(a.wake_fd, &count, sizeof(count)) == sizeof(count);
}

static void expect_told(enum accel_health health, const char *why) {
    assert_non_null(a.notices);
    assert_null(a.notices->next);
    assert_int_equal(a.notices->health, health);
    assert_non_null(strstr(a.notices->why, why));
    assert_true(was_woken());
}

static void a_device_that_opens_is_no_news(void **state) {
    (void)state;
    assert_int_equal(device.state.health, ACCEL_READY);
    assert_int_equal(device.counters.instances, 1);
    assert_null(a.notices);
    assert_false(was_woken());
}

/* Three answers, and one that cannot be: the three count, all else is lost with the device. */
static void answers_before_an_impossible_one_count(void **state) {
    (void)state;
    submit_all();
    will_answer(2, ACCEL_OK);
    will_answer(0, ACCEL_FAILED);
    will_answer(2, ACCEL_OK); /* again */
    driver_hear(&a, &device);
    expect_ended(4, (size_t[]){ 2, 0, 1, 3 },
                 (enum accel_status[]){ ACCEL_OK, ACCEL_FAILED, ACCEL_RESET, ACCEL_RESET });
    assert_int_equal(job[2].out_size, 102);
    assert_int_equal(device.state.health, ACCEL_WAITING);
    assert_int_equal(fake.retired, 1);
    assert_int_equal(device.counters.in_flight, 0);
    assert_int_equal(device.counters.failed, 1);
    assert_int_equal(device.counters.batches, 1);
    assert_true(device.counters.quarantined >= 2 * DEPTH * sizeof(data));
    expect_told(ACCEL_WAITING, "does not have");
}

static void answers_before_the_device_breaks_count(void **state) {
    (void)state;
    submit_all();
    will_answer(1, ACCEL_OK);
    fake.breaks = true;
    driver_hear(&a, &device);
    expect_ended(4, (size_t[]){ 1, 0, 2, 3 }, (enum accel_status[]){ ACCEL_OK, ACCEL_RESET, ACCEL_RESET, ACCEL_RESET });
    expect_told(ACCEL_WAITING, "it broke");
}

static void who_is_late_ends_otherwise_than_who_is_not(void **state) {
    (void)state;
    submit_all();
    int64_t now = clock_now();
    job[1].slot->deadline = now;
    job[3].slot->deadline = now - 1;
    job[0].slot->deadline = job[2].slot->deadline = now + 1;
    int64_t next = driver_tick(&a, &device, now);
    expect_ended(4, (size_t[]){ 1, 3, 0, 2 },
                 (enum accel_status[]){ ACCEL_TIMEOUT, ACCEL_TIMEOUT, ACCEL_RESET, ACCEL_RESET });
    assert_int_equal(next, now + CLOCK_S);
    assert_int_equal(next, device.state.until);
    assert_int_equal(device.counters.timeouts, 2);
    expect_told(ACCEL_WAITING, "1000 ms to 2 jobs");
    assert_int_equal(accel_submit(&a, &job[DEPTH]), -1);
}

static void the_oldest_job_says_when_to_look_again(void **state) {
    (void)state;
    submit_all();
    int64_t now = clock_now();
    job[2].slot->deadline = now + 5;
    assert_int_equal(driver_tick(&a, &device, now), now + 5);
    assert_int_equal(device.state.health, ACCEL_READY);
    assert_null(a.finished);
}

/* The thread is woken for the first deadline, and not for those behind it. */
static void a_job_wakes_the_thread_when_its_deadline_is_the_first(void **state) {
    (void)state;
    assert_int_equal(accel_submit(&a, &job[0]), 1);
    assert_true(was_woken());
    a.armed = job[0].slot->deadline;
    assert_int_equal(accel_submit(&a, &job[1]), 1);
    assert_false(was_woken());
}

static void who_does_not_take_a_job_is_full_or_gone(void **state) {
    (void)state;
    assert_int_equal(accel_submit(&a, &job[0]), 1);
    fake.submits = 0;
    assert_int_equal(accel_submit(&a, &job[1]), 0);
    assert_null(job[1].slot);
    fake.submits = 1;
    assert_int_equal(accel_submit(&a, &job[1]), 0); /* not asked again before it has answered */
    will_answer(0, ACCEL_OK);
    driver_hear(&a, &device);
    fake.answers = 0;
    assert_int_equal(accel_submit(&a, &job[1]), 1);
    assert_true(was_woken());
    fake.submits = -1;
    assert_int_equal(accel_submit(&a, &job[2]), -1);
    assert_null(job[2].slot);
    expect_ended(2, (size_t[]){ 0, 1 }, (enum accel_status[]){ ACCEL_OK, ACCEL_RESET });
    expect_told(ACCEL_WAITING, "it is gone");
}

static void it_is_started_again_when_it_is_time(void **state) {
    (void)state;
    fake.breaks = true;
    driver_hear(&a, &device);
    expect_told(ACCEL_WAITING, "it broke");
    fake.breaks = false;
    int64_t until = device.state.until;
    assert_int_equal(driver_tick(&a, &device, until - 1), until);
    assert_int_equal(fake.started, 1);
    fake.start_fails = true;
    int64_t next = driver_tick(&a, &device, until);
    assert_int_equal(next, device.state.until);
    assert_int_equal(device.state.health, ACCEL_WAITING);
    assert_int_equal(device.state.failures, 2);
    fake.start_fails = false;
    fake.starts_ready = false;
    next = driver_tick(&a, &device, next);
    assert_int_equal(next, device.state.until);
    assert_int_equal(device.state.health, ACCEL_STARTING);
    assert_int_equal(fake.started, 3);
    assert_int_equal(fake.retired, 1); /* of two attempts one had no unit, and the other's is not over */
    assert_non_null(device.unit->older);
    assert_null(a.notices->next);
    driver_hear(&a, &device);
    assert_int_equal(device.state.health, ACCEL_READY);
    assert_string_equal(a.notices->next->why, "it is back");
    assert_int_equal(accel_submit(&a, &job[0]), 1);
}

static void blame_takes_the_jobs_too(void **state) {
    (void)state;
    assert_int_equal(accel_submit(&a, &job[0]), 1);
    assert_true(was_woken());
    for (int i = 0; i < ACCEL_MAX_BLAMES; i++) {
        assert_null(a.finished);
        accel_blame(&a, 0);
    }
    expect_ended(1, (size_t[]){ 0 }, (enum accel_status[]){ ACCEL_RESET });
    expect_told(ACCEL_LOST, "wrong too often");
    struct accel_counters c;
    assert_int_equal(accel_counters(&a, &c, 1), 1);
    assert_int_equal(c.blamed, ACCEL_MAX_BLAMES);
    assert_int_equal(c.health, ACCEL_LOST);
    assert_int_equal(c.resets, 0);
}

static void closing_ends_jobs_without_news(void **state) {
    (void)state;
    submit_all();
    assert_true(was_woken());
    will_answer(0, ACCEL_OK);
    driver_hear(&a, &device);
    driver_close(&a, &device);
    expect_ended(4, (size_t[]){ 0, 1, 2, 3 },
                 (enum accel_status[]){ ACCEL_OK, ACCEL_CLOSED, ACCEL_CLOSED, ACCEL_CLOSED });
    assert_null(a.notices);
    assert_int_equal(fake.retired, 0); /* driver_free() does that, when nobody is there any more */
    assert_int_equal(driver_tick(&a, &device, NEVER - 1), NEVER);
    assert_int_equal(fake.started, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_device_that_opens_is_no_news),
        T(answers_before_an_impossible_one_count),
        T(answers_before_the_device_breaks_count),
        T(who_is_late_ends_otherwise_than_who_is_not),
        T(the_oldest_job_says_when_to_look_again),
        T(a_job_wakes_the_thread_when_its_deadline_is_the_first),
        T(who_does_not_take_a_job_is_full_or_gone),
        T(it_is_started_again_when_it_is_time),
        T(blame_takes_the_jobs_too),
        T(closing_ends_jobs_without_news),
    };
    return cmocka_run_group_tests_name("accel_driver", tests, NULL, NULL);
}
