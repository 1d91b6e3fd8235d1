/* SPDX-License-Identifier: Apache-2.0 */
/* The source's half of a check. */
#include "migrate/check.h"

#include "base/clock.h"
#include "base/log.h"
#include "hold/throttle.h"
#include "track/kernel.h"
#include "view/memory.h"
#include "wire/connect.h"
#include "wire/hello.h"
#include "wire/link.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define CONNECT_TIMEOUT (10 * CLOCK_S)
/* From the hello to the answer: the receiver asks its VMM some questions, and may be looking at another source first.
 */
#define ANSWER_TIMEOUT (30 * CLOCK_S)

/* What is wrong is a finding, whatever its class. True: nothing was. */
static bool take(struct findings *f, int rc, struct error *err) {
    if (rc < 0) {
        findings_refuse(f, "%s", err->desc);
        error_clear(err);
    }
    return rc >= 0;
}

/* How writes of the guest would be seen. */
static void check_tracker(const struct kernel_features *k, const struct params *params, struct findings *f) {
    enum tracker_kind best = kernel_tracker(k), asked = (enum tracker_kind)params->value[PARAM_TRACKER];
    if (best == TRACKER_AUTO) {
        findings_refuse(f, "this kernel has no means to see the guest's writes: 'godwit probe' says what is missing");
    } else if (asked == TRACKER_ASYNC && best != TRACKER_ASYNC) {
        findings_refuse(f, "tracker=async needs Linux 6.7 or newer: 'godwit probe' says what is missing; tracker=auto "
                           "takes what there is");
    } else if (best != TRACKER_ASYNC) {
        findings_remark(f, "only the slow tracker is there (Linux 6.7 has the fast one): each first write of a page "
                           "would wait for godwit");
    }
    if (!k->ptrace || !k->pidfd_getfd) {
        findings_refuse(f, "godwit may not attach to this VMM: 'godwit probe' says what is missing");
    }
}

/* A kernel may know the one kind of memory and not the other. */
static void check_memory(const struct kernel_features *k, const struct vmm *vmm, struct findings *f) {
    for (size_t i = 0; i < vmm->ram_count && kernel_tracker(k) != TRACKER_AUTO; i++) {
        const struct vmm_ram *ram = &vmm->ram[i];
        enum tracker_memory memory = memory_kind(ram);
        if (ram->guest && !kernel_tracks(k, memory)) {
            findings_refuse(
                f,
                "this kernel has no means to see writes to RAM %s, which is %s: 'godwit probe' says what is "
                "missing",
                ram->id, memory == TRACKER_SHARED ? "a shared file (Linux 5.19)" : "private to its VMM (Linux 5.13)");
        }
    }
}

/* A check changes nothing, so nothing is ever noted. */
static int note_nothing(void *opaque, const char *path, const char *before, const char *ours, struct error *err) {
    (void)opaque;
    (void)path;
    (void)before;
    (void)ours;
    return error_set(err, ERROR_SYSTEM, "a check throttles nobody");
}

static void check_throttle(const struct check_config *c, struct findings *f) {
    struct error why = { 0 };
    pid_t *threads = NULL;
    size_t count = 0;
    struct throttle_config config = { .pid = c->vmm->pid,
                                      .kind = (enum throttle_kind)c->params.value[PARAM_THROTTLE_ACTUATOR],
                                      .root = "",
                                      .note = note_nothing };
    struct throttle *t = NULL;
    if (c->vmm->ops->cpu_threads(c->vmm, &threads, &count, &why) == 0) {
        t = throttle_open(&config, threads, count, &why);
    }
    free(threads);
    if (t == NULL) {
        findings_remark(f, "the guest could not be held back, so that a migration may not end: %s", why.desc);
    }
    throttle_close(t);
}

static void check_running(struct vmm *vmm, struct findings *f) {
    struct error err = { 0 };
    bool running = true;
    if (take(f, vmm->ops->guest_running(vmm, &running, &err), &err) && !running) {
        findings_remark(f, "the guest is paused, and would arrive paused");
    }
}

/* Bytes that the guest's RAM takes here. */
static uint64_t memory_used(const struct vmm *vmm) {
    uint64_t used = 0;
    for (size_t i = 0; i < vmm->ram_count; i++) {
        used += vmm->ram[i].guest ? memory_held(&vmm->ram[i], vmm->pid) : 0;
    }
    return used;
}

/* In which way the device state would go. One that is wished for and barred is found. */
static void choose_way(const struct check_config *c, struct check_result *r) {
    struct error err = { 0 };
    size_t before = json_array_size(r->source.refusals);
    enum vmm_wish wish = (enum vmm_wish)c->params.value[PARAM_DEVICE_STATE];
    bool chosen = take(&r->source, c->vmm->ops->choose(c->vmm, wish, &r->choice, &r->source, &err), &err);
    r->chosen = chosen && json_array_size(r->source.refusals) == before;
}

/* The connection of a check: connected and welcomed. NULL on error. */
static struct link *connect_receiver(const struct check_config *c, struct error *err) {
    struct connect_how how = { .timeout = CONNECT_TIMEOUT, .retry_until = clock_now() + c->wait };
    int fd = connect_to(&c->to, &how, err);
    if (fd < 0) {
        return NULL;
    }
    int64_t silence = c->params.value[PARAM_LINK_TIMEOUT] * CLOCK_S;
    struct conn conn;
    conn_init(&conn, fd, "the connection");
    struct timeval patience = { .tv_sec = (time_t)(silence / CLOCK_S) }, none = { 0 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    atomic_store(&conn.patience, silence);
    struct hello hello = { .role = ROLE_CHECK };
    if (hello_send(&conn, &hello, err) < 0 || hello_receive(&conn, &hello, err) < 0) {
        conn_close(&conn);
        return NULL;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
    return link_open(fd, silence, err);
}

/* A new reference; NULL on error. */
static json_t *await_answer(struct link *l, struct error *err) {
    int64_t deadline = clock_now() + ANSWER_TIMEOUT, left;
    struct pollfd p = { .fd = link_poll_fd(l), .events = POLLIN };
    while ((left = deadline - clock_now()) > 0) {
        json_t *message = NULL;
        int rc = poll(&p, 1, (int)(left / CLOCK_MS) + 1) > 0 ? link_receive(l, &message, err) : 0;
        if (rc < 0) {
            return NULL;
        }
        const char *type = json_string_value(json_object_get(message, "type"));
        if (type != NULL && strcmp(type, "checked") == 0) {
            return message;
        }
        if (message != NULL) {
            const char *desc = json_string_value(json_object_get(message, "desc"));
            error_set(err, ERROR_PEER, "the receiver answers: %.300s",
                      desc != NULL ? desc : "(nothing that makes sense)");
            json_decref(message);
            return NULL;
        }
    }
    error_set(err, ERROR_TIMEOUT, "the receiver did not answer within %.0f s", (double)ANSWER_TIMEOUT / 1e9);
    return NULL;
}

static json_t *exchange(const struct check_config *c, json_t *guest, struct error *err) {
    struct link *l = connect_receiver(c, err);
    json_t *answer = NULL;
    json_t *request =
        json_pack("{s:s, s:s, s:{s:O, s:o, s:I}}", "type", "request", "stage", "inspect", "args", "guest", guest,
                  "params", params_json(&c->params, false), "memory", (json_int_t)memory_used(c->vmm));
    if (l != NULL && link_send(l, json_incref(request), err) == 0) {
        answer = await_answer(l, err);
    }
    json_decref(request);
    link_close(l);
    return answer;
}

static void take_texts(json_t *list, void (*add)(struct findings *f, const char *format, ...), struct findings *f) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        add(f, "%s", json_is_string(item) ? json_string_value(item) : "(something that is no text)");
    }
}

/* The destination has a say in what the source does, as its limits do in a migration: what it must not say is found. */
static void take_answer(const struct check_config *c, json_t *answer, struct check_result *r) {
    struct error err = { 0 };
    struct params agreed = c->params;
    json_t *theirs = json_object_get(answer, "params");
    take_texts(json_object_get(answer, "refusals"), findings_refuse, &r->destination);
    take_texts(json_object_get(answer, "remarks"), findings_remark, &r->destination);
    if (theirs != NULL && take(&r->destination, params_adopt(&agreed, theirs, &err), &err)) {
        r->params = params_json(&agreed, true);
    }
}

void check_ask(const struct check_config *c, struct check_result *r) {
    struct kernel_features kernel;
    struct error err = { 0 };
    *r = (struct check_result){ .source = FINDINGS_INIT, .destination = FINDINGS_INIT };
    kernel_probe(&kernel);
    check_tracker(&kernel, &c->params, &r->source);
    if (!take(&r->source, c->vmm->ops->inspect(c->vmm, VMM_SOURCE, &r->source, &err), &err)) {
        return;
    }
    check_memory(&kernel, c->vmm, &r->source);
    check_running(c->vmm, &r->source);
    check_throttle(c, &r->source);
    choose_way(c, r);
    json_t *guest = c->vmm->ops->describe(c->vmm, &err);
    if (!take(&r->source, guest != NULL ? 0 : -1, &err)) {
        return;
    }
    json_t *answer = exchange(c, guest, &err);
    json_decref(guest);
    if (take(&r->destination, answer != NULL ? 0 : -1, &err)) {
        take_answer(c, answer, r);
    }
    json_decref(answer);
}

void check_result_release(struct check_result *r) {
    findings_release(&r->source);
    findings_release(&r->destination);
    json_decref(r->params);
}
