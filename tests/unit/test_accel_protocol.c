/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that is no card: what it says is bounded, and what it must not say ends the connection and nothing else. */
#include "accel_support.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Accepts one connection after the other and says the same to each. */
struct peer {
    char device[128];
    int listener;
    pthread_t thread;
    _Atomic bool stop;
    struct emulated_message welcome;
    size_t welcome_size; /* of the packet; 0: nothing is said; SIZE_MAX: closes at once */
    unsigned welcomes;   /* so many connections get it; 0: all */
    /* Changes the right answer to a job; how often it is then sent. NULL: it reads nothing. */
    unsigned (*spoil)(struct emulated_message *answer, const struct emulated_message *submit);
};

static bool readable(struct peer *p, int fd) {
    struct pollfd f = { .fd = fd, .events = POLLIN };
    while (!atomic_load(&p->stop)) {
        if (poll(&f, 1, 10) > 0) {
            return true;
        }
    }
    return false;
}

static void serve(struct peer *p, int fd) {
    char packet[256] = "";
    if (p->welcome_size == SIZE_MAX) {
        return;
    }
    memcpy(packet, &p->welcome, sizeof(p->welcome));
    if (p->welcome_size > 0) {
        send(fd, packet, p->welcome_size, MSG_NOSIGNAL);
    }
    if (p->spoil == NULL) { /* deaf */
        while (!atomic_load(&p->stop)) {
            clock_sleep(CLOCK_MS);
        }
        return;
    }
    struct emulated_message m;
    while (readable(p, fd) && recv(fd, &m, sizeof(m), 0) == sizeof(m)) {
        if (m.kind != EMULATED_SUBMIT) {
            continue;
        }
        struct emulated_message answer = { .magic = EMULATED_MAGIC,
                                           .kind = EMULATED_COMPLETE,
                                           .slot = m.slot,
                                           .serial = m.serial,
                                           .codec = CODEC_DEFLATE,
                                           .size = 1 };
        for (unsigned n = p->spoil(&answer, &m); n > 0; n--) {
            send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
        }
    }
}

static void *peer_thread(void *opaque) {
    struct peer *p = opaque;
    while (readable(p, p->listener)) {
        int fd = accept(p->listener, NULL, NULL);
        serve(p, fd);
        close(fd);
        if (p->welcomes > 0 && --p->welcomes == 0) {
            p->welcome_size = 0;
        }
    }
    return NULL;
}

static void peer_start(struct peer *p, const char *directory) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/peer", directory);
    snprintf(p->device, sizeof(p->device), "emulated:%s", address.sun_path);
    unlink(address.sun_path);
    p->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(p->listener, 8), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_thread, p), 0);
}

static void peer_stop(struct peer *p) {
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    close(p->listener);
}

static struct peer good_peer(void) {
    return (struct peer){ .welcome = { .magic = EMULATED_MAGIC, .kind = EMULATED_WELCOME, .instance = 1, .depth = 4 },
                          .welcome_size = sizeof(struct emulated_message) };
}

static void refused(const char *devices, enum error_class class, const char *text) {
    struct error err = { 0 };
    struct accel_config config = { .devices = devices, .timeout_ns = CLOCK_S, .max_job = MAX_JOB };
    assert_null(accel_open(&config, &err));
    expect_error(&err, class, text, devices != NULL ? devices : "NULL");
}

static void what_does_not_exist_is_refused_by_name(void **state) {
    (void)state;
    refused(NULL, ERROR_USAGE, "accel-devices");
    refused("", ERROR_USAGE, "there is no \"\"");
    refused("qqt", ERROR_USAGE, "there is no \"qqt\"");
    refused("emulated", ERROR_USAGE, "path");
    refused("emulated:", ERROR_USAGE, "path");
    refused("emulated:/nowhere/card", ERROR_SYSTEM, "start emulated-accel");
    refused("emulated:/nowhere/card,", ERROR_USAGE, "there is no \"\"");
    refused("emulated:/a,emulated:/a", ERROR_USAGE, "twice");
    char longest[300] = "emulated:";
    memset(longest + 9, 'x', sizeof(longest) - 10);
    refused(longest, ERROR_USAGE, "too long");
#ifdef HAVE_QATZIP
    refused("qat:1", ERROR_USAGE, "nothing may follow");
    refused("qat,qat", ERROR_USAGE, "twice");
    if (access("/dev/qat_adf_ctl", F_OK) != 0 && access("/dev/vfio", F_OK) != 0) {
        refused("qat", ERROR_REFUSED, "no hardware");
    }
#else
    refused("qat", ERROR_REFUSED, "libqatzip-dev");
#endif
}

static void open_refused(void **state, struct peer peer, const char *text) {
    peer_start(&peer, *state);
    refused(peer.device, ERROR_SYSTEM, text);
    peer_stop(&peer);
}

static void a_wrong_welcome_is_refused(void **state) {
    struct peer p = good_peer();
    p.welcome_size = 0;
    open_refused(state, p, "does not answer");
    p.welcome_size = SIZE_MAX;
    open_refused(state, p, "connection is lost");
    p.welcome_size = sizeof(p.welcome) - 1;
    open_refused(state, p, "63 bytes");
    p.welcome_size = sizeof(p.welcome) + 1;
    open_refused(state, p, "65 bytes");
    p.welcome_size = 2 * sizeof(p.welcome) + 1; /* cut off where we stop to read */
    open_refused(state, p, "128 bytes");

    p = good_peer();
    p.welcome.magic++;
    open_refused(state, p, "something else");
    p = good_peer();
    p.welcome.kind = EMULATED_COMPLETE;
    open_refused(state, p, "began with message");
    p = good_peer();
    p.welcome.depth = 0;
    open_refused(state, p, "offers");
    p.welcome.depth = 1025;
    open_refused(state, p, "offers");
    p = good_peer();
    p.welcome.instance = 0;
    open_refused(state, p, "offers");
}

/* How an answer is changed; it is sent once. */
#define WRONG(name, change)                                                                                            \
    static unsigned name(struct emulated_message *answer, const struct emulated_message *submit) {                     \
        (void)submit;                                                                                                  \
        change;                                                                                                        \
        return 1;                                                                                                      \
    }
WRONG(fine, answer->size = submit->out_size) /* n of n */
WRONG(other_slot, answer->slot = submit->slot + 1)
WRONG(slot_behind_the_end, answer->slot = 8) /* one queue of 4: 0 to 7 */
WRONG(slot_far_away, answer->slot = UINT32_MAX)
WRONG(older_job, answer->serial = submit->serial - 1)
WRONG(empty, answer->size = 0)
WRONG(one_too_many, answer->size = submit->out_size + 1)
WRONG(huge, answer->size = UINT64_MAX)
WRONG(other_codec, answer->codec = CODEC_ZSTD)
WRONG(no_codec, answer->codec = CODEC_NONE)
WRONG(other_status, answer->status = 3)
WRONG(other_message, answer->kind = EMULATED_WELCOME)

static void impossible_answers_reset_the_device(void **state) {
    unsigned (*const wrong[])(struct emulated_message *, const struct emulated_message *) = {
        other_slot, slot_behind_the_end, slot_far_away, older_job,    empty,        one_too_many,
        huge,       other_codec,         no_codec,      other_status, other_message
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct peer p = good_peer();
        struct batch b;
        p.spoil = wrong[i];
        peer_start(&p, *state);
        struct accel *a = accel_for(p.device, 1, 30 * CLOCK_S, NULL);
        batch_make(&b, a, 65536, 1);
        assert_int_equal(batch_run(&b), ACCEL_RESET);
        assert_int_equal(counters_of(a, 0).resets, 1);
        assert_int_equal(counters_of(a, 0).batches, 0);
        accel_close(a);
        peer_stop(&p);
    }
}

WRONG(one_too_few, answer->size = submit->out_size - 1)
WRONG(says_too_big, answer->status = EMULATED_TOO_BIG)
WRONG(lz4, answer->codec = CODEC_LZ4; answer->size = submit->out_size)

/* A size that a bad payload explains is a failure of the job; one that nothing explains resets the device here too. */
static void a_wrong_size_of_what_was_packed_fails(void **state) {
    const struct {
        unsigned (*spoil)(struct emulated_message *, const struct emulated_message *);
        enum accel_status ends;
    } cases[] = { { fine, ACCEL_OK },
                  { one_too_few, ACCEL_FAILED },
                  { empty, ACCEL_FAILED },
                  { says_too_big, ACCEL_FAILED },
                  { one_too_many, ACCEL_RESET },
                  { huge, ACCEL_RESET },
                  { lz4, ACCEL_RESET } };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct peer p = good_peer();
        struct batch b;
        p.spoil = cases[i].spoil;
        peer_start(&p, *state);
        struct accel *a = accel_for(p.device, 1, 30 * CLOCK_S, NULL);
        batch_make_packed(&b, a, 65536, 1);
        assert_int_equal(batch_run(&b), cases[i].ends);
        assert_int_equal(b.job.out != NULL, cases[i].ends == ACCEL_OK);
        struct accel_counters c = counters_of(a, 0);
        assert_int_equal(c.failed, cases[i].ends == ACCEL_FAILED);
        assert_int_equal(c.resets, cases[i].ends == ACCEL_RESET);
        assert_int_equal(c.decompressed.batches, cases[i].ends == ACCEL_OK);
        accel_close(a);
        peer_stop(&p);
    }
}

static unsigned twice(struct emulated_message *answer, const struct emulated_message *submit) {
    (void)answer;
    (void)submit;
    return 2;
}

static void an_answer_counts_once(void **state) {
    struct peer p = good_peer();
    struct witness w = { 0 };
    struct batch b;
    p.spoil = fine;
    peer_start(&p, *state);
    struct accel *a = accel_for(p.device, 1, 30 * CLOCK_S, &w);
    batch_make(&b, a, 65536, 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    assert_int_equal(b.job.out_size, b.job.capacity);
    accel_release(a, &b.job);
    accel_release(a, &b.job); /* no second time */
    accel_close(a);
    peer_stop(&p);

    p.stop = false;
    p.spoil = twice;
    peer_start(&p, *state);
    a = accel_for(p.device, 1, 30 * CLOCK_S, &w);
    batch_make(&b, a, 65536, 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_WAITING]) > 0); /* for the second one */
    assert_int_equal(atomic_load(&b.done), 1);
    assert_int_equal(b.job.out_size, 1);
    assert_int_equal(b.job.out[0], 0); /* still there */
    accel_release(a, &b.job);
    accel_close(a);
    peer_stop(&p);
}

#define RESETS 10000u /* timeouts are counted in the lower digits, resets in the higher ones */

static void counted(struct accel_job *job) {
    atomic_fetch_add((_Atomic unsigned *)job->opaque, job->status == ACCEL_TIMEOUT ? 1 : RESETS);
}

/* The socket is full long before the queue is. */
static void who_does_not_read_is_full(void **state) {
    static struct accel_job job[1024];
    struct peer p = good_peer();
    struct batch b;
    _Atomic unsigned ends = 0;
    unsigned taken = 0;
    p.welcome.depth = COUNT(job);
    peer_start(&p, *state);
    struct accel *a = accel_for(p.device, 1, 2 * CLOCK_S, NULL);
    batch_make(&b, a, 4096, 1);
    for (; taken < COUNT(job); taken++) {
        job[taken] = b.job;
        job[taken].done = counted;
        job[taken].opaque = &ends;
        if (accel_submit(a, &job[taken]) != 1) {
            break;
        }
    }
    assert_in_range(taken, 1, COUNT(job) - 1);
    assert_false(accel_wait_room(a, 0));
    WAIT_FOR(counters_of(a, 0).in_flight == 0);
    accel_close(a);
    /* those that were submitted a little later than the first end with its reset instead */
    assert_true(atomic_load(&ends) % RESETS > 0);
    assert_int_equal(atomic_load(&ends) % RESETS + atomic_load(&ends) / RESETS, taken);
    peer_stop(&p);
}

static void who_is_wrong_every_time_is_lost(void **state) {
    struct peer p = good_peer();
    struct witness w = { 0 };
    struct batch b;
    p.spoil = huge;
    peer_start(&p, *state);
    struct accel *a = accel_for(p.device, 1, 30 * CLOCK_S, &w);
    batch_make(&b, a, 65536, 1);
    while (atomic_load(&w.seen[ACCEL_LOST]) == 0) {
        atomic_store(&b.done, 0);
        if (accel_submit(a, &b.job) == 1) {
            batch_wait(&b);
            assert_int_equal(b.job.status, ACCEL_RESET);
        }
        clock_sleep(CLOCK_MS);
    }
    assert_int_equal(accel_submit(a, &b.job), -1);
    assert_int_equal(counters_of(a, 0).resets, 6);
    assert_int_equal(counters_of(a, 0).health, ACCEL_LOST);
    accel_close(a);
    peer_stop(&p);
}

static void who_does_not_start_again_is_lost(void **state) {
    struct peer p = good_peer();
    struct witness w = { 0 };
    struct batch b;
    p.spoil = huge;
    p.welcomes = 1;
    peer_start(&p, *state);
    struct accel *a = accel_for(p.device, 1, CLOCK_S / 4, &w);
    batch_make(&b, a, 65536, 1);
    assert_true(batch_run(&b) != ACCEL_OK);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_LOST]) == 1);
    assert_int_equal(atomic_load(&w.seen[ACCEL_WAITING]), 1);
    assert_int_equal(atomic_load(&w.seen[ACCEL_READY]), 0);
    assert_int_equal(counters_of(a, 0).resets, 1);
    accel_close(a);
    peer_stop(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_exist_is_refused_by_name),
        cmocka_unit_test(a_wrong_welcome_is_refused),
        cmocka_unit_test(impossible_answers_reset_the_device),
        cmocka_unit_test(a_wrong_size_of_what_was_packed_fails),
        cmocka_unit_test(an_answer_counts_once),
        cmocka_unit_test(who_does_not_read_is_full),
        cmocka_unit_test(who_is_wrong_every_time_is_lost),
        cmocka_unit_test(who_does_not_start_again_is_lost),
    };
    return cmocka_run_group_tests_name("accel_protocol", tests, scratch_setup, scratch_teardown);
}
