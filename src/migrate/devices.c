/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/devices.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "ram/block.h"

#include <string.h>

#define MOST_DEVICES 16
#define SOFTWARE_SUFFIX ":software"

/* On a thread of accel's: kept for the main thread, which writes the events. */
static void note_change(void *opaque, unsigned device, enum accel_health health, const char *why) {
    struct devices *d = opaque;
    LOCK_GUARD(&d->lock);
    if (d->changes == NULL) {
        d->changes = json_array();
    }
    json_array_append_new(d->changes, json_pack("{s:i, s:s, s:s}", "device", (int)device, "health",
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

static struct accel *open_list(struct devices *d, const char *list, const struct params *params, struct error *err) {
    char devices[PARAM_TEXT_SIZE];
    snprintf(devices, sizeof(devices), "%s", list);
    bool software = take_suffix(devices);
    int64_t instances = params->value[PARAM_ACCEL_INSTANCES];
    struct accel_config config = { .devices = devices,
                                   .instances = instances == PARAM_AUTO ? 0 : (unsigned)instances,
                                   .max_job = (size_t)params->value[PARAM_PAGES_PER_BATCH] * RAM_PAGE_SIZE,
                                   .allow_software = software,
                                   .changed = note_change,
                                   .opaque = d };
    return accel_open(&config, err);
}

int devices_open(struct devices *d, const struct params *params, bool compresses, struct error *err) {
    const char *list = params->accel_devices;
    bool automatic = strcmp(list, "auto") == 0;
    bool wanted = compresses && params->value[PARAM_COMPRESSION] == PARAM_COMPRESSION_QAT;
    bool possible = wanted || params->value[PARAM_COMPRESSION] == PARAM_COMPRESSION_AUTO;
    pthread_mutex_init(&d->lock, NULL);
    if (strcmp(list, "none") == 0 || (automatic && !possible)) {
        return 0;
    }
    struct error why = { 0 };
    d->accel = open_list(d, automatic ? "qat" : list, params, &why);
    if (d->accel == NULL && (wanted || !automatic)) {
        *err = why;
        return -1;
    }
    if (d->accel == NULL) {
        log_debug("no accelerator: %s", why.desc);
    }
    return 0;
}

void devices_close(struct devices *d) {
    accel_close(d->accel);
    d->accel = NULL;
    json_decref(d->changes);
    d->changes = NULL;
}

void devices_tell(struct devices *d, struct events *events) {
    if (d->accel == NULL) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    json_t *changes = d->changes;
    d->changes = NULL;
    pthread_mutex_unlock(&d->lock);
    size_t i;
    json_t *change;
    json_array_foreach(changes, i, change) {
        const char *health = json_string_value(json_object_get(change, "health"));
        if (strcmp(health, "ready") != 0) {
            log_warning("accelerator %lld: %s; software goes on meanwhile",
                        (long long)json_integer_value(json_object_get(change, "device")),
                        json_string_value(json_object_get(change, "why")));
        }
        events_emit(events, "accel", json_incref(change));
    }
    json_decref(changes);
}

static json_t *device_json(const struct accel_counters *c) {
    return json_pack("{s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", c->name, "health",
                     accel_health_name(c->health), "software", c->software, "instances", (int)c->instances, "batches",
                     (json_int_t)c->batches, "in", (json_int_t)c->in, "out", (json_int_t)c->out, "failed",
                     (json_int_t)c->failed, "timeouts", (json_int_t)c->timeouts, "resets", (json_int_t)c->resets,
                     "blamed", (json_int_t)c->blamed, "decompressed", (json_int_t)c->decompressed.batches);
}

json_t *devices_json(struct devices *d, uint64_t fallbacks) {
    struct accel_counters counters[MOST_DEVICES];
    unsigned n = d->accel != NULL ? accel_counters(d->accel, counters, MOST_DEVICES) : 0;
    if (n == 0) {
        return NULL;
    }
    json_t *devices = json_array();
    for (unsigned i = 0; i < n && i < MOST_DEVICES; i++) {
        json_array_append_new(devices, device_json(&counters[i]));
    }
    return json_pack("{s:o, s:I}", "devices", devices, "fallbacks", (json_int_t)fallbacks);
}
