/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

static const struct accel_ops *const kinds[] = {
    &accel_emulated,
#ifdef HAVE_QATZIP
    &accel_qatzip,
#endif
};

/* What could be meant, and is not in every build. */
static const struct {
    const char *kind, *cure;
} known[] = {
    { "qat", "QATzip was not there when this godwit was built; install libqatzip-dev (Debian 13) and build again" },
};

const char *accel_status_name(enum accel_status status) {
    static const char *const names[] = { "ok", "too big", "failed", "timeout", "reset", "closed" };
    return names[status];
}

static int no_such_kind(const char *name, struct error *err) {
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].kind, name) == 0) {
            return error_set(err, ERROR_REFUSED, "accel-devices: \"%s\" is not possible: %s", name, known[i].cure);
        }
    }
    return error_set(err, ERROR_USAGE, "accel-devices: there is no \"%s\"; known are qat and emulated:PATH", name);
}

static const struct accel_ops *find_kind(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i]->kind) == length && memcmp(kinds[i]->kind, name, length) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

/* Fills in one device from the word in accel-devices. */
static int parse_device(struct accel *a, const char *name, struct error *err) {
    struct accel_device *d = &a->device[a->devices];
    size_t length = strcspn(name, ":");
    *d = (struct accel_device){ .index = a->devices, .ops = find_kind(name, length) };
    if (d->ops == NULL) {
        return no_such_kind(name, err);
    }
    if (d->ops->has_path ? name[length] == '\0' || name[length + 1] == '\0' : name[length] != '\0') {
        return error_set(err, ERROR_USAGE, "accel-devices: \"%s\": %s", name,
                         d->ops->has_path ? "the path of its socket is missing" : "nothing may follow the name");
    }
    if (strlen(name) >= sizeof(d->counters.name)) {
        return error_set(err, ERROR_USAGE, "accel-devices: \"%s\" is too long", name);
    }
    for (unsigned i = 0; i < a->devices; i++) {
        if (strcmp(a->device[i].counters.name, name) == 0) {
            return error_set(err, ERROR_USAGE, "accel-devices: \"%s\" is there twice; see accel-instances", name);
        }
    }
    snprintf(d->counters.name, sizeof(d->counters.name), "%s", name);
    if (d->ops->has_path) {
        d->path = strdup(name + length + 1);
        if (d->path == NULL) {
            return error_set(err, ERROR_SYSTEM, "no memory");
        }
    }
    a->devices++;
    return 0;
}

static int parse_devices(struct accel *a, const char *text, struct error *err) {
    unsigned words = 1;
    for (const char *s = text; *s != '\0'; s++) {
        words += *s == ',';
    }
    CLEANUP_FREE char *copy = strdup(text);
    a->device = calloc(words, sizeof(*a->device));
    a->fds = calloc(words + 1, sizeof(*a->fds));
    if (copy == NULL || a->device == NULL || a->fds == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory");
    }
    for (char *rest = copy, *word; (word = strsep(&rest, ",")) != NULL;) {
        if (parse_device(a, word, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static void set_defaults(struct accel *a, const struct accel_config *config) {
    struct accel_config *c = &a->config;
    *c = *config;
    c->devices = NULL; /* the caller's text is not kept */
    c->instances = c->instances > 0 ? c->instances : 1;
    c->timeout_ns = c->timeout_ns > 0 ? c->timeout_ns : 2 * CLOCK_S;
    c->retry_ns = c->retry_ns > 0 ? c->retry_ns : 100 * CLOCK_MS;
    c->memory = memory_round(c->memory > 0 ? c->memory : (size_t)1 << 30);
    /* Deflate makes what cannot be compressed larger, QAT by up to an eighth: a device must not run out of room before
     * it knows that, because then QATzip leaks, and a fault would look like a batch that does not shrink. */
    size_t slot_size = memory_round(c->max_job + c->max_job / 8 + c->max_job / 512 + 4096);
    a->ground = (struct accel_ground){ .input = { .fd = -1 },
                                       .max_job = c->max_job,
                                       .allow_software = c->allow_software,
                                       .instances = c->instances,
                                       .slot_size = slot_size };
    a->times = (struct device_times){ .timeout_ns = c->timeout_ns, .retry_ns = c->retry_ns };
}

static struct accel *accel_new(const struct accel_config *config) {
    struct accel *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    set_defaults(a, config);
    a->wake_fd = -1;
    a->armed = NEVER;
    a->finished_tail = &a->finished;
    a->notices_tail = &a->notices;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->room, &attr);
    pthread_condattr_destroy(&attr);
    return a;
}

/* Without the thread. */
static void accel_free(struct accel *a) {
    bool stopped = true;
    int64_t until = clock_now() + a->config.timeout_ns;
    for (unsigned i = 0; i < a->devices; i++) {
        stopped &= driver_free(&a->device[i], until);
        free(a->device[i].path);
    }
    if (stopped) {
        memory_free(&a->ground.input);
    }
    if (a->wake_fd >= 0) {
        close(a->wake_fd);
    }
    pthread_cond_destroy(&a->room);
    pthread_mutex_destroy(&a->lock);
    free(a->device);
    free(a->fds);
    free(a);
}

static int open_all(struct accel *a, const char *devices, struct error *err) {
    if (devices == NULL || a->config.max_job == 0 || a->config.max_job > (size_t)1 << 30 ||
        a->config.instances > ACCEL_MAX_INSTANCES) {
        return error_set(err, ERROR_USAGE, "accel-devices and accel-instances (1 to %d) say nothing that can be opened",
                         ACCEL_MAX_INSTANCES);
    }
    if (parse_devices(a, devices, err) != 0 ||
        memory_create(&a->ground.input, a->config.memory, ACCEL_DEVICE_READS, err) != 0) {
        return -1;
    }
    a->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->wake_fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "eventfd");
    }
    for (unsigned i = 0; i < a->devices; i++) {
        if (driver_open(a, &a->device[i], err) != 0) {
            return error_prefix(err, "%s: ", a->device[i].counters.name);
        }
    }
    errno = pthread_create(&a->thread, NULL, accel_thread, a);
    return errno == 0 ? 0 : error_errno(err, ERROR_SYSTEM, "a thread for accelerators");
}

struct accel *accel_open(const struct accel_config *config, struct error *err) {
    struct accel *a = accel_new(config);
    if (a == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    if (open_all(a, config->devices, err) != 0) {
        accel_free(a);
        return NULL;
    }
    return a;
}

/* Ends what is in flight; no device is used or started from here on. */
static void close_devices(struct accel *a) {
    LOCK_GUARD(&a->lock);
    a->closing = true;
    for (unsigned i = 0; i < a->devices; i++) {
        driver_close(a, &a->device[i]);
    }
    pthread_cond_broadcast(&a->room);
    driver_wake(a);
}

void accel_close(struct accel *a) {
    if (a == NULL) {
        return;
    }
    close_devices(a);
    pthread_join(a->thread, NULL);
    accel_free(a);
}

void *accel_alloc(struct accel *a, size_t size) {
    LOCK_GUARD(&a->lock);
    const struct accel_memory *input = &a->ground.input;
    if (size > input->size || memory_round(size) > input->size - a->input_used) {
        return NULL;
    }
    uint8_t *at = input->base + a->input_used;
    a->input_used += memory_round(size);
    return at;
}

void accel_blame(struct accel *a, unsigned device) {
    LOCK_GUARD(&a->lock);
    if (device < a->devices) {
        driver_blame(a, &a->device[device]);
    }
}

unsigned accel_counters(struct accel *a, struct accel_counters *to, unsigned max) {
    LOCK_GUARD(&a->lock);
    for (unsigned i = 0; i < a->devices && i < max; i++) {
        to[i] = a->device[i].counters;
        to[i].health = a->device[i].state.health;
        to[i].resets = a->device[i].state.resets;
        to[i].blamed = a->device[i].state.blamed;
    }
    return a->devices;
}
