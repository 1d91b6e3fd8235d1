/* SPDX-License-Identifier: Apache-2.0 */
/* The accelerators of a migration: which, what became of them, and what is told of it. */
#include "migrate/source.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <string.h>

#define MOST_DEVICES 16
#define SOFTWARE_SUFFIX ":software"

/* On a thread of accel's: kept for the main thread, which writes the events. */
static void note_change(void *opaque, unsigned device, enum accel_health health, const char *why) {
    struct source *s = opaque;
    LOCK_GUARD(&s->accel_lock);
    if (s->accel_changes == NULL) {
        s->accel_changes = json_array();
    }
    json_array_append_new(s->accel_changes, json_pack("{s:i, s:s, s:s}", "device", (int)device, "health",
                                                      accel_health_name(health), "why", why != NULL ? why : ""));
}

/* "qat:software" is QAT's library on the CPU: for hosts that prepare for devices, and for tests. */
static bool take_suffix(char *devices) {
    char *suffix = strstr(devices, SOFTWARE_SUFFIX);
    if (suffix == NULL || suffix[strlen(SOFTWARE_SUFFIX)] != '\0') {
        return false;
    }
    *suffix = '\0';
    return true;
}

static struct accel *open_devices(struct source *s, const char *list, struct error *err) {
    char devices[PARAM_TEXT_SIZE];
    snprintf(devices, sizeof(devices), "%s", list);
    bool software = take_suffix(devices);
    int64_t instances = s->params.value[PARAM_ACCEL_INSTANCES];
    struct accel_config config = { .devices = devices,
                                   .instances = instances == PARAM_AUTO ? 0 : (unsigned)instances,
                                   .max_job = (size_t)s->params.value[PARAM_PAGES_PER_BATCH] * RAM_PAGE_SIZE,
                                   .allow_software = software,
                                   .changed = note_change,
                                   .opaque = s };
    return accel_open(&config, err);
}

int source_accel_open(struct source *s, struct accel **accel, struct error *err) {
    *accel = NULL;
    pthread_mutex_lock(&s->params_lock); /* not live, but the control thread writes the whole */
    bool automatic = strcmp(s->params.accel_devices, "auto") == 0;
    bool wanted = s->params.value[PARAM_COMPRESSION] == PARAM_COMPRESSION_QAT;
    bool possible = wanted || s->params.value[PARAM_COMPRESSION] == PARAM_COMPRESSION_AUTO;
    pthread_mutex_unlock(&s->params_lock);
    if (strcmp(s->params.accel_devices, "none") == 0 || (automatic && !possible)) {
        return 0;
    }
    struct error why = { 0 };
    *accel = open_devices(s, automatic ? "qat" : s->params.accel_devices, &why);
    if (*accel == NULL && (wanted || !automatic)) {
        *err = why;
        return -1;
    }
    if (*accel == NULL) {
        log_debug("no accelerator: %s", why.desc);
    }
    return 0;
}

void source_accel_tell(struct source *s) {
    pthread_mutex_lock(&s->accel_lock);
    json_t *changes = s->accel_changes;
    s->accel_changes = NULL;
    pthread_mutex_unlock(&s->accel_lock);
    size_t i;
    json_t *change;
    json_array_foreach(changes, i, change) {
        const char *health = json_string_value(json_object_get(change, "health"));
        if (strcmp(health, "ready") != 0) {
            log_warning("accelerator %lld: %s; software goes on meanwhile",
                        (long long)json_integer_value(json_object_get(change, "device")),
                        json_string_value(json_object_get(change, "why")));
        }
        events_emit(&s->events, "accel", json_incref(change));
    }
    json_decref(changes);
}

static json_t *device_json(const struct accel_counters *c) {
    return json_pack("{s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", c->name, "health",
                     accel_health_name(c->health), "software", c->software, "instances", (int)c->instances, "batches",
                     (json_int_t)c->batches, "in", (json_int_t)c->in, "out", (json_int_t)c->out, "failed",
                     (json_int_t)c->failed, "timeouts", (json_int_t)c->timeouts, "resets", (json_int_t)c->resets,
                     "blamed", (json_int_t)c->blamed);
}

json_t *source_accel_json(struct source *s) {
    struct accel_counters counters[MOST_DEVICES];
    unsigned n = s->accel != NULL ? accel_counters(s->accel, counters, MOST_DEVICES) : 0;
    if (n == 0) {
        return NULL;
    }
    json_t *devices = json_array();
    for (unsigned i = 0; i < n && i < MOST_DEVICES; i++) {
        json_array_append_new(devices, device_json(&counters[i]));
    }
    return json_pack("{s:o, s:I}", "devices", devices, "fallbacks",
                     (json_int_t)atomic_load(&ram_send_counters(s->send)->fallbacks));
}
