/* SPDX-License-Identifier: Apache-2.0 */
#include "accel_support.h"

#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void spawn(struct card *card, char **argv, int in, int out) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    assert_int_equal(posix_spawn(&card->pid, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
}

void card_start(struct card *card, const char *directory, const char *name, const char *options) {
    char *program = getenv("EMULATED_ACCEL"), words[256], said[16] = "";
    assert_non_null(program);
    snprintf(card->socket, sizeof(card->socket), "%s/%s", directory, name);
    snprintf(card->device, sizeof(card->device), "emulated:%s", card->socket);
    snprintf(words, sizeof(words), "%s", options != NULL ? options : "");
    char *argv[24] = { program, (char *)"--socket", card->socket };
    size_t n = 3;
    for (char *rest = words, *word; n < COUNT(argv) - 1 && (word = strsep(&rest, " ")) != NULL;) {
        if (*word != '\0') {
            argv[n++] = word;
        }
    }
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    spawn(card, argv, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    card->input = in[1];
    assert_true(read(out[0], said, sizeof(said) - 1) > 0);
    assert_string_equal(said, "ready\n");
    close(out[0]);
}

void card_stop(struct card *card) {
    int status;
    close(card->input);
    assert_int_equal(waitpid(card->pid, &status, 0), card->pid);
    assert_int_equal(status, 0);
}

void card_fault(const struct card *card, enum emulated_fault kind, uint64_t from, uint64_t count) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    memcpy(address.sun_path, card->socket, strlen(card->socket) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    struct emulated_message m = {
        .magic = EMULATED_MAGIC, .kind = EMULATED_FAULT, .status = kind, .offset = from, .size = count
    };
    assert_int_equal(send(fd, &m, sizeof(m), 0), sizeof(m));
    shutdown(fd, SHUT_WR);
    while (recv(fd, &m, sizeof(m), 0) > 0) { /* until the card has read it and closes */
    }
    close(fd);
}

static void batch_done(struct accel_job *job) {
    struct batch *b = job->opaque;
    atomic_fetch_add(&b->done, 1);
}

void batch_make(struct batch *b, struct accel *a, size_t size, uint64_t seed) {
    *b = (struct batch){ .accel = a, .data = accel_alloc(a, size) };
    assert_non_null(b->data);
    random_text(&seed, b->data, size);
    b->job = (struct accel_job){
        .in = b->data, .size = size, .capacity = size - size / 16, .level = 1, .done = batch_done, .opaque = b
    };
}

void batch_make_packed(struct batch *b, struct accel *a, size_t size, uint64_t seed) {
    batch_make(b, a, size, seed);
    uint8_t *payload = accel_alloc(a, size);
    void *encoder = codec_deflate.encoder_new();
    assert_true(payload != NULL && encoder != NULL);
    b->job.work = ACCEL_DECOMPRESS;
    b->job.codec = CODEC_DEFLATE;
    b->job.in = payload;
    b->job.size = codec_deflate.encode(encoder, b->data, size, payload, size, 1);
    b->job.capacity = size;
    assert_true(b->job.size > 0);
    codec_deflate.encoder_free(encoder);
}

int batch_submit(struct batch *b) {
    atomic_store(&b->done, 0);
    int rc;
    while ((rc = accel_submit(b->accel, &b->job)) == 0) {
        accel_wait_room(b->accel, CLOCK_S);
    }
    return rc;
}

void batch_wait(struct batch *b) {
    WAIT_FOR(atomic_load(&b->done) > 0);
}

enum accel_status batch_run(struct batch *b) {
    assert_int_equal(batch_submit(b), 1);
    batch_wait(b);
    return b->job.status;
}

bool batch_is_right(const struct batch *b) {
    if (b->job.work == ACCEL_DECOMPRESS) {
        return memcmp(b->job.out, b->data, b->job.capacity) == 0;
    }
    struct inflate_state s;
    uint8_t *back = malloc(b->job.size);
    assert_non_null(back);
    isal_inflate_init(&s);
    s.next_in = (uint8_t *)(uintptr_t)b->job.out;
    s.avail_in = (uint32_t)b->job.out_size;
    s.next_out = back;
    s.avail_out = (uint32_t)b->job.size;
    bool right = isal_inflate_stateless(&s) == ISAL_DECOMP_OK && s.total_out == b->job.size && s.avail_in == 0 &&
                 memcmp(back, b->data, b->job.size) == 0;
    free(back);
    return right;
}

void batch_assert_right(struct batch *b) {
    assert_int_equal(b->job.status, ACCEL_OK);
    assert_int_equal(b->job.codec, CODEC_DEFLATE);
    assert_true(b->job.out_size > 0 && b->job.out_size <= b->job.capacity);
    assert_true(b->job.out_size == b->job.capacity || b->job.work == ACCEL_COMPRESS);
    assert_true(batch_is_right(b));
    accel_release(b->accel, &b->job);
}

void witness_changed(void *opaque, unsigned device, enum accel_health health, const char *why) {
    struct witness *w = opaque;
    (void)why;
    atomic_store(&w->last, device);
    atomic_fetch_add(&w->seen[health], 1);
}

struct accel *accel_for(const char *devices, unsigned instances, int64_t timeout_ns, struct witness *witness) {
    struct error err = { 0 };
    struct accel_config config = { .devices = devices,
                                   .instances = instances,
                                   .timeout_ns = timeout_ns,
                                   .retry_ns = CLOCK_MS,
                                   .max_job = MAX_JOB,
                                   .allow_software = true,
                                   .memory = (size_t)128 << 20,
                                   .changed = witness != NULL ? witness_changed : NULL,
                                   .opaque = witness };
    struct accel *a = accel_open(&config, &err);
    assert_ok(a != NULL, &err);
    return a;
}

struct accel_counters counters_of(struct accel *a, unsigned device) {
    struct accel_counters c[8];
    assert_true(device < accel_counters(a, c, COUNT(c)));
    return c[device];
}

static void pump_turn(struct pump *p, struct batch *b) {
    if (atomic_load(&p->stop) || accel_submit(p->accel, &b->job) != 1) {
        atomic_fetch_sub(&p->running, 1);
    }
}

static void pump_done(struct accel_job *job) {
    struct pump *p = job->opaque;
    if (job->status == ACCEL_OK) {
        atomic_fetch_add(&p->bytes, job->size);
    }
    accel_release(p->accel, job);
    pump_turn(p, (struct batch *)(void *)((char *)job - offsetof(struct batch, job)));
}

void pump_start(struct pump *p, struct accel *a, unsigned width, size_t size) {
    assert_true(width <= COUNT(p->batch));
    memset(p, 0, sizeof(*p));
    p->accel = a;
    p->width = width;
    atomic_store(&p->running, width);
    for (unsigned i = 0; i < width; i++) {
        batch_make(&p->batch[i], a, size, i + 1);
        p->batch[i].job.done = pump_done;
        p->batch[i].job.opaque = p;
        pump_turn(p, &p->batch[i]);
    }
}

void pump_stop(struct pump *p) {
    atomic_store(&p->stop, true);
    WAIT_FOR(atomic_load(&p->running) == 0);
}
