/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression by devices, and accel_run(). Without an argument on emulated cards; "qat" runs what needs no plan of
 * faults on QATzip.
 */
#include "accel_support.h"

#include <pthread.h>
#include <stdio.h>

#define SHORT (2 * CLOCK_S) /* a time-out that is meant to pass */
#define LONG (30 * CLOCK_S) /* one that is not, on a slow machine either */

static const char *wanted; /* the device, or NULL: a card of our own */
static struct card card;

static struct accel *open_with(void **state, unsigned instances, const char *options, int64_t timeout_ns,
                               struct witness *witness) {
    if (wanted != NULL) {
        return accel_for(wanted, instances, timeout_ns, witness);
    }
    card_start(&card, *state, "card", options);
    return accel_for(card.device, instances, timeout_ns, witness);
}

static struct accel *open_one(void **state, unsigned instances, const char *options) {
    return open_with(state, instances, options, LONG, NULL);
}

static void close_one(struct accel *a) {
    accel_close(a);
    if (wanted == NULL) {
        card_stop(&card);
    }
}

static void payloads_come_back_whole(void **state) {
    struct accel *a = open_one(state, 2, NULL);
    const size_t sizes[] = { 4096, 12288, 65536, 69632, MAX_JOB };
    struct batch b[COUNT(sizes)];
    uint64_t in = 0, out = 0;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        batch_make_packed(&b[i], a, sizes[i], i + 1);
        in += b[i].job.size;
        out += sizes[i];
        assert_int_equal(batch_submit(&b[i]), 1);
    }
    for (size_t i = 0; i < COUNT(sizes); i++) {
        batch_wait(&b[i]);
        assert_int_equal(atomic_load(&b[i].done), 1);
    }
    for (size_t i = 0; i < COUNT(sizes); i++) { /* all results are there until they are released */
        batch_assert_right(&b[i]);
    }
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.decompressed.batches, COUNT(sizes));
    assert_int_equal(c.decompressed.in, in);
    assert_int_equal(c.decompressed.out, out);
    assert_int_equal(c.batches + c.in + c.out, 0);
    assert_int_equal(c.in_flight + c.timeouts + c.resets + c.failed + c.too_big, 0);
    close_one(a);
}

static void what_a_device_packed_it_unpacks(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    struct batch packed, b;
    batch_make(&packed, a, MAX_JOB, 5);
    batch_make_packed(&b, a, MAX_JOB, 5); /* the same data */
    assert_int_equal(batch_run(&packed), ACCEL_OK);
    b.job.size = packed.job.out_size;
    memcpy((uint8_t *)(uintptr_t)b.job.in, packed.job.out, b.job.size);
    batch_assert_right(&packed);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    close_one(a);
}

static void streams_one_behind_the_other_are_one_payload(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    struct batch b, second;
    batch_make_packed(&b, a, 65536, 1);
    batch_make_packed(&second, a, 65536, 2);
    uint8_t *in = accel_alloc(a, 2 * 65536), *data = malloc(2 * 65536);
    assert_true(in != NULL && data != NULL);
    memcpy(in, b.job.in, b.job.size);
    memcpy(in + b.job.size, second.job.in, second.job.size);
    memcpy(data, b.data, 65536);
    memcpy(data + 65536, second.data, 65536);
    b.job.in = in;
    b.job.size += second.job.size;
    b.job.capacity = 2 * 65536;
    b.data = data;
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    free(data);
    close_one(a);
}

/* Damages that a job in `b` of which `good` is the original can have. */
static void no_such_block(struct accel_job *job, uint8_t *in) {
    (void)job;
    in[0] = 0x07; /* a block of a type that does not exist */
}
static void cut_short(struct accel_job *job, uint8_t *in) {
    (void)in;
    job->size /= 2;
}
static void one_byte_short(struct accel_job *job, uint8_t *in) {
    (void)in;
    job->size -= 1;
}
static void more_behind_the_end(struct accel_job *job, uint8_t *in) {
    memset(in + job->size, 0xff, 16);
    job->size += 16;
}
static void nothing_in_it(struct accel_job *job, uint8_t *in) {
    in[0] = 0x03; /* one final block that is empty */
    in[1] = 0x00;
    job->size = 2;
}
static void only_zeros(struct accel_job *job, uint8_t *in) {
    memset(in, 0, job->size);
}
static void larger_than_said(struct accel_job *job, uint8_t *in) {
    (void)in;
    job->capacity -= 1;
}
static void much_larger_than_said(struct accel_job *job, uint8_t *in) {
    (void)in;
    job->capacity = 1;
}
static void smaller_than_said(struct accel_job *job, uint8_t *in) {
    (void)in;
    job->capacity += 1;
}

/* A peer may send us such payloads for ever: it must not cost us the device, and not the next payload. */
static void a_damaged_payload_is_not_the_devices_fault(void **state) {
    struct witness w = { 0 };
    struct accel *a = open_with(state, 1, NULL, LONG, &w);
    void (*const damage[])(struct accel_job *,
                           uint8_t *) = { no_such_block,    cut_short,  one_byte_short,   more_behind_the_end,
                                          nothing_in_it,    only_zeros, larger_than_said, much_larger_than_said,
                                          smaller_than_said };
    struct batch good, bad;
    batch_make_packed(&good, a, 65536, 1);
    batch_make_packed(&bad, a, 65536, 1);
    uint8_t *in = (uint8_t *)(uintptr_t)bad.job.in;
    for (size_t i = 0; i < 3 * COUNT(damage); i++) {
        bad.job.size = good.job.size;
        bad.job.capacity = good.job.capacity;
        memcpy(in, good.job.in, good.job.size);
        damage[i / 3](&bad.job, in);
        assert_int_equal(batch_run(&bad), ACCEL_FAILED);
        assert_null(bad.job.out);
        accel_release(a, &bad.job); /* harmless */
        if (i % 3 == 2) {           /* after three in a row */
            assert_int_equal(batch_run(&good), ACCEL_OK);
            batch_assert_right(&good);
        }
    }
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(batch_run(&bad), ACCEL_FAILED);
    }
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.failed, 3 * COUNT(damage) + 20);
    assert_int_equal(c.decompressed.batches, COUNT(damage));
    assert_int_equal(c.health, ACCEL_READY);
    assert_int_equal(c.resets + c.timeouts + c.too_big + c.blamed, 0);
    assert_int_equal(atomic_load(&w.seen[ACCEL_WAITING]) + atomic_load(&w.seen[ACCEL_LOST]), 0);
    close_one(a);
}

static void what_cannot_be_decompressed_is_refused(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    struct batch b;
    batch_make_packed(&b, a, 65536, 1);
    const enum codec_id others[] = { CODEC_NONE, CODEC_LZ4, CODEC_ZSTD };
    for (size_t i = 0; i < COUNT(others); i++) {
        b.job.codec = others[i];
        assert_int_equal(accel_submit(a, &b.job), -1);
    }
    b.job.codec = CODEC_DEFLATE;
    b.job.capacity = 0;
    assert_int_equal(accel_submit(a, &b.job), -1);
    b.job.capacity = MAX_JOB + 1;
    assert_int_equal(accel_submit(a, &b.job), -1);
    b.job.capacity = MAX_JOB; /* is asked for, and is not what comes */
    assert_int_equal(batch_run(&b), ACCEL_FAILED);
    close_one(a);
}

struct worker {
    pthread_t thread;
    struct batch batch;
    unsigned jobs, wrong;
};

static void *run(void *opaque) {
    struct worker *w = opaque;
    for (unsigned i = 0; i < 25; i++) {
        struct accel_job *job = &w->batch.job;
        w->wrong += accel_run(w->batch.accel, job, LONG) != 0 || job->status != ACCEL_OK || !batch_is_right(&w->batch);
        w->wrong += job->opaque != &w->batch;
        accel_release(w->batch.accel, job);
        w->jobs++;
    }
    return NULL;
}

/* More threads than places: each waits for room in turn. */
static void both_directions_share_a_device(void **state) {
    struct accel *a = open_one(state, 2, "--depth 1");
    struct worker w[8] = { 0 };
    for (size_t i = 0; i < COUNT(w); i++) {
        (i % 2 == 0 ? batch_make : batch_make_packed)(&w[i].batch, a, i < 4 ? 65536 : 8192, i + 1);
        assert_int_equal(pthread_create(&w[i].thread, NULL, run, &w[i]), 0);
    }
    for (size_t i = 0; i < COUNT(w); i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].jobs, 25);
        assert_int_equal(w[i].wrong, 0);
        assert_int_equal(atomic_load(&w[i].batch.done), 0); /* the job's own done() is not called */
    }
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.batches, 100);
    assert_int_equal(c.decompressed.batches, 100);
    assert_int_equal(c.resets + c.failed + c.timeouts, 0);
    close_one(a);
}

static void running_waits_for_room_no_longer_than_told(void **state) {
    struct accel *a = open_one(state, 1, "--depth 1");
    struct batch b[16], late;
    size_t held = 0;
    batch_make_packed(&late, a, 8192, 99);
    for (; held < COUNT(b); held++) { /* results that nobody releases */
        batch_make_packed(&b[held], a, 8192, held + 1);
        if (accel_run(a, &b[held].job, 0) != 0) {
            break;
        }
        assert_int_equal(b[held].job.status, ACCEL_OK);
    }
    assert_in_range(held, 1, COUNT(b) - 1);
    assert_int_equal(accel_run(a, &late.job, CLOCK_MS), -1);
    batch_assert_right(&b[0]);
    assert_int_equal(accel_run(a, &late.job, INT64_MAX), 0);
    batch_assert_right(&late);
    late.job.codec = CODEC_ZSTD;
    assert_int_equal(accel_run(a, &late.job, INT64_MAX), -1); /* at once: no device does that */
    close_one(a);
}

static void a_hang_ends_the_run(void **state) {
    struct witness w = { 0 };
    struct batch b;
    struct accel *a = open_with(state, 1, "--fault hang@1", SHORT, &w);
    batch_make_packed(&b, a, 65536, 1);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    batch_assert_right(&b);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    assert_int_equal(b.job.status, ACCEL_TIMEOUT);
    assert_null(b.job.out);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    batch_assert_right(&b);
    assert_int_equal(counters_of(a, 0).timeouts, 1);
    close_one(a);
}

static void a_reset_ends_decompressions_too(void **state) {
    struct witness w = { 0 };
    struct batch b;
    struct accel *a = open_with(state, 1, "--fault reset@0", LONG, &w);
    batch_make_packed(&b, a, MAX_JOB, 1);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    assert_int_equal(b.job.status, ACCEL_RESET);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    batch_assert_right(&b);
    assert_int_equal(counters_of(a, 0).resets, 1);
    close_one(a);
}

static void who_unpacks_garbage_is_given_up(void **state) {
    struct witness w = { 0 };
    struct batch b;
    struct accel *a = open_with(state, 1, "--fault garbage@0:9", LONG, &w);
    batch_make_packed(&b, a, 65536, 1);
    for (int i = 0; i < ACCEL_MAX_BLAMES; i++) {
        assert_int_equal(accel_run(a, &b.job, LONG), 0);
        assert_int_equal(b.job.status, ACCEL_OK); /* the size is right: a digest has to tell */
        assert_false(batch_is_right(&b));
        accel_release(a, &b.job);
        accel_blame(a, b.job.device);
    }
    assert_int_equal(accel_run(a, &b.job, LONG), -1);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_LOST]) == 1);
    close_one(a);
}

/* What fails is software's to judge: a device is given up by blame, not by the number of its failures. */
static void who_fails_on_good_payloads_is_given_up_by_blame(void **state) {
    struct batch b;
    struct accel *a = open_with(state, 1, "--fault error@0:99", LONG, NULL);
    batch_make_packed(&b, a, 65536, 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(accel_run(a, &b.job, LONG), 0);
        assert_int_equal(b.job.status, ACCEL_FAILED);
    }
    assert_int_equal(counters_of(a, 0).resets, 0);
    for (int i = 0; i < ACCEL_MAX_BLAMES; i++) {
        assert_int_equal(accel_run(a, &b.job, LONG), 0);
        accel_blame(a, b.job.device);
    }
    assert_int_equal(counters_of(a, 0).health, ACCEL_LOST);
    close_one(a);
}

/* 65536000 bytes/s: 64 KiB are 1 ms of the card's time, however small they are compressed. */
static void the_cards_rate_counts_what_comes_out(void **state) {
    char path[160], options[200], text[512] = "";
    snprintf(path, sizeof(path), "%s/stats", (const char *)*state);
    snprintf(options, sizeof(options), "--rate 65536000 --stats %s", path);
    struct accel *a = open_one(state, 1, options);
    struct batch b, packed;
    batch_make_packed(&b, a, 65536, 1);
    assert_int_equal(accel_run(a, &b.job, LONG), 0);
    batch_assert_right(&b);
    batch_make(&packed, a, 65536, 1);
    assert_int_equal(accel_run(a, &packed.job, LONG), 0);
    batch_assert_right(&packed);
    close_one(a);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\"busy-ns\": 2000000,"));
    assert_non_null(strstr(text, "\"jobs\": 2, \"inflated\": 1,"));
    assert_non_null(strstr(text, "\"violations\": 0"));
}

int main(int argc, char **argv) {
    wanted = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest any[] = {
        cmocka_unit_test(payloads_come_back_whole),
        cmocka_unit_test(what_a_device_packed_it_unpacks),
        cmocka_unit_test(a_damaged_payload_is_not_the_devices_fault),
        cmocka_unit_test(what_cannot_be_decompressed_is_refused),
        cmocka_unit_test(both_directions_share_a_device),
        cmocka_unit_test(running_waits_for_room_no_longer_than_told),
    };
    const struct CMUnitTest emulated[] = {
        cmocka_unit_test(streams_one_behind_the_other_are_one_payload),
        cmocka_unit_test(a_hang_ends_the_run),
        cmocka_unit_test(a_reset_ends_decompressions_too),
        cmocka_unit_test(who_unpacks_garbage_is_given_up),
        cmocka_unit_test(who_fails_on_good_payloads_is_given_up_by_blame),
        cmocka_unit_test(the_cards_rate_counts_what_comes_out),
    };
    if (wanted != NULL) {
        return cmocka_run_group_tests_name("accel_qatzip_decompress", any, scratch_setup, scratch_teardown);
    }
    return cmocka_run_group_tests_name("accel_decompress", any, scratch_setup, scratch_teardown) +
           cmocka_run_group_tests_name("accel_decompress_faults", emulated, scratch_setup, scratch_teardown);
}
