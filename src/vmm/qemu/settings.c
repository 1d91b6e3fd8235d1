/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities and parameters of QEMU's own migration, which carries only the device state for us.
 *
 * What is found is written into the ledger first; after that only what differs is set. Restoring compares with
 * what is there again, so it may run any number of times and from any half-done state.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <stdio.h>
#include <string.h>

/* High enough that QEMU never waits between two buffers; it is also the mark by which assume_prepared() knows us. */
#define FREE_BANDWIDTH (INT64_C(1) << 40)
/* The limit times the measured bandwidth is what may be left to send when QEMU stops the guest. What it still sends is
 * video RAM and the like, some 16 MiB: the usual 300 ms let it stop after one pass, and keep what is left for after the
 * stop small. stop() raises it when the guest writes that memory too fast. */
#define DOWNTIME_LIMIT INT64_C(300)
#define DEFAULT_BANDWIDTH (INT64_C(128) << 20)

#define SKIPS_RAM "x-ignore-shared"

enum want { LEAVE, OFF, ON, NEED };

static const struct {
    const char *name;
    enum want source, destination;
} capabilities[] = {
    { SKIPS_RAM, NEED, NEED }, /* RAM in shared files stays out of the stream; off for VMM_WAY_SAVE */
    { "pause-before-switchover", NEED, LEAVE },
    { "events", ON, ON },
    { "late-block-activate", LEAVE, ON }, /* image locks are taken at `cont`, not when the state is loaded */
    /* what needs a second channel, another stream format, an answer of the destination or the RAM that we skip */
    { "multifd", OFF, OFF },
    { "postcopy-ram", OFF, OFF },
    { "postcopy-preempt", OFF, OFF },
    { "xbzrle", OFF, OFF },
    { "auto-converge", OFF, OFF },
    { "dirty-limit", OFF, OFF },
    { "background-snapshot", OFF, OFF },
    { "compress", OFF, OFF },
    { "zero-copy-send", OFF, OFF },
    { "mapped-ram", OFF, OFF },
    { "return-path", OFF, OFF },
    { "switchover-ack", OFF, OFF },
    { "release-ram", OFF, OFF },
    { "validate-uuid", OFF, OFF },
    { "x-colo", OFF, OFF },
    /* disks are ours: QEMU must copy neither them nor the bitmaps that we keep on them */
    { "block", OFF, OFF },
    { "dirty-bitmaps", OFF, OFF },
};

#define CAPABILITY_COUNT (sizeof(capabilities) / sizeof(capabilities[0]))
#define CAPABILITIES_MOST (sizeof((struct did_capabilities){ 0 }.item) / sizeof((struct did_capabilities){ 0 }.item[0]))
_Static_assert(CAPABILITY_COUNT <= CAPABILITIES_MOST, "the ledger's entry holds them all");

/* Both ends of a stream must have the one that skips RAM alike, or it is not loaded. */
static enum want wanted(size_t i, const struct qemu *q) {
    if (q->vmm.way == VMM_WAY_SAVE && strcmp(capabilities[i].name, SKIPS_RAM) == 0) {
        return OFF;
    }
    return q->side == VMM_SOURCE ? capabilities[i].source : capabilities[i].destination;
}

/* What query-migrate-capabilities says of `name`: 1 on, 0 off, -1 this QEMU does not know it. */
static int state_of(const json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *found = json_string_value(json_object_get(item, "capability"));
        if (found != NULL && strcmp(found, name) == 0) {
            return json_is_true(json_object_get(item, "state")) ? 1 : 0;
        }
    }
    return -1;
}

static int query_list(struct qemu *q, json_t **list, struct error *err) {
    if (qmp_execute(q->qmp, "query-migrate-capabilities", NULL, list, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    return json_is_array(*list)
               ? 0
               : error_set(err, ERROR_VMM, "QEMU's answer to query-migrate-capabilities makes no sense");
}

static void change(json_t *changes, const char *name, bool on) {
    json_array_append_new(changes, json_pack("{s:s, s:b}", "capability", name, "state", (int)on));
}

/* All in one command: QEMU checks the set as it will be, so no order can be wrong. Takes `changes`. */
static int set_capabilities(struct qemu *q, json_t *changes, struct error *err) {
    if (json_array_size(changes) == 0) {
        json_decref(changes);
        return 0;
    }
    json_t *args = json_pack("{s:o}", "capabilities", changes);
    return qmp_execute(q->qmp, "migrate-set-capabilities", args, NULL, QMP_TIMEOUT, err);
}

static void write_down(struct did_capabilities *did, const char *name, bool was) {
    snprintf(did->item[did->count].name, sizeof(did->item[0].name), "%s", name);
    did->item[did->count++].was = was;
}

static int apply_capabilities(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_JSON json_t *changes = json_array();
    struct did_capabilities *did = q->did.capabilities;
    if (query_list(q, &list, err) < 0) {
        return -1;
    }
    did->count = 0;
    for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
        int is = state_of(list, capabilities[i].name);
        enum want want = wanted(i, q);
        if (is < 0 && want == NEED) {
            return error_set(err, ERROR_REFUSED,
                             "this QEMU has no migration capability %s: QEMU 4.0 or later is needed",
                             capabilities[i].name);
        }
        if (is < 0 || want == LEAVE || is == (want != OFF)) {
            continue;
        }
        write_down(did, capabilities[i].name, is == 1);
        change(changes, capabilities[i].name, want != OFF);
    }
    ledger_set(did, true);
    return set_capabilities(q, take_ptr(&changes), err);
}

static int restore_capabilities(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_JSON json_t *changes = json_array();
    const struct did_capabilities *did = q->did.capabilities;
    if (query_list(q, &list, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < did->count && i < CAPABILITIES_MOST; i++) {
        char name[sizeof(did->item[0].name)];
        snprintf(name, sizeof(name), "%.*s", (int)sizeof(name) - 1, did->item[i].name);
        bool was = did->item[i].was != 0;
        int is = state_of(list, name);
        if (is >= 0 && (is == 1) != was) {
            change(changes, name, was);
        }
    }
    return set_capabilities(q, take_ptr(&changes), err);
}

static int query_parameters(struct qemu *q, json_t **found, struct error *err) {
    return qmp_execute(q->qmp, "query-migrate-parameters", NULL, found, QMP_TIMEOUT, err);
}

/* Parameters as they are now (`found`), as they shall be (`want`): one command with what differs. */
static int set_parameters(struct qemu *q, const json_t *found, json_t *want, struct error *err) {
    json_t *args = json_object(), *value;
    const char *name;
    json_object_foreach(want, name, value) {
        int64_t a, b;
        const json_t *is = json_object_get(found, name);
        bool same = query_int(is, &a) && query_int(value, &b) ? a == b : json_equal(is, value) == 1;
        if (is != NULL && !same) {
            json_object_set(args, name, value);
        }
    }
    if (json_object_size(args) == 0) {
        json_decref(args);
        return 0;
    }
    return qmp_execute(q->qmp, "migrate-set-parameters", args, NULL, QMP_TIMEOUT, err);
}

static int apply_parameters(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *found = NULL;
    struct did_parameters *did = q->did.parameters;
    if (query_parameters(q, &found, err) < 0) {
        return -1;
    }
    did->has_numbers = q->side == VMM_SOURCE &&
                       query_int(json_object_get(found, "max-bandwidth"), &did->max_bandwidth) &&
                       query_int(json_object_get(found, "downtime-limit"), &did->downtime_limit);
    did->has_tls_creds = query_string(json_object_get(found, "tls-creds"), did->tls_creds, sizeof(did->tls_creds));
    did->has_mode = query_string(json_object_get(found, "mode"), did->mode, sizeof(did->mode));
    if (json_string_length(json_object_get(found, "tls-creds")) >= sizeof(did->tls_creds)) {
        return error_set(err, ERROR_REFUSED,
                         "the migration parameter tls-creds of this QEMU is too long to be restored");
    }
    ledger_set(did, true);
    CLEANUP_JSON json_t *want = json_pack("{s:s, s:s}", "tls-creds", "", "mode", "normal");
    if (q->side == VMM_SOURCE) {
        json_object_set_new(want, "max-bandwidth", json_integer(FREE_BANDWIDTH));
        json_object_set_new(want, "downtime-limit", json_integer(DOWNTIME_LIMIT));
    }
    return set_parameters(q, found, want, err);
}

static int restore_parameters(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *found = NULL;
    CLEANUP_JSON json_t *want = json_object();
    struct did_parameters *did = q->did.parameters;
    if (query_parameters(q, &found, err) < 0) {
        return -1;
    }
    if (did->has_numbers) {
        json_object_set_new(want, "max-bandwidth", json_integer(did->max_bandwidth));
        json_object_set_new(want, "downtime-limit", json_integer(did->downtime_limit));
    }
    if (did->has_tls_creds) {
        json_object_set_new(want, "tls-creds",
                            json_stringn(did->tls_creds, strnlen(did->tls_creds, sizeof(did->tls_creds))));
    }
    if (did->has_mode) {
        json_object_set_new(want, "mode", json_stringn(did->mode, strnlen(did->mode, sizeof(did->mode))));
    }
    return set_parameters(q, found, want, err);
}

int qemu_set_downtime_limit(struct qemu *q, int64_t ms, struct error *err) {
    json_t *args = json_pack("{s:I}", "downtime-limit", (json_int_t)ms);
    return qmp_execute(q->qmp, "migrate-set-parameters", args, NULL, QMP_TIMEOUT, err);
}

int qemu_settings_apply(struct qemu *q, struct error *err) {
    if (is_done(q->did.capabilities) || is_done(q->did.parameters)) {
        return 0; /* a second look would take our own settings for what was there before */
    }
    return apply_capabilities(q, err) < 0 || apply_parameters(q, err) < 0 ? -1 : 0;
}

/* Tries both, and keeps the first error. */
int qemu_settings_restore(struct qemu *q, struct error *err) {
    int result = 0;
    if (is_done(q->did.parameters)) {
        if (restore_parameters(q, err) < 0) {
            result = -1;
        } else {
            ledger_set(q->did.parameters, false);
        }
    }
    if (is_done(q->did.capabilities)) {
        if (restore_capabilities(q, err) < 0) {
            result = -1;
        } else {
            ledger_set(q->did.capabilities, false);
        }
    }
    return result;
}

int qemu_settings_assume(struct qemu *q, struct error *err) {
    struct did_parameters *did = q->did.parameters;
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_JSON json_t *found = NULL;
    int64_t bandwidth = 0;
    if (query_list(q, &list, err) < 0 || query_parameters(q, &found, err) < 0) {
        return -1;
    }
    q->did.capabilities->count = 0;
    for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
        if (capabilities[i].source >= ON && state_of(list, capabilities[i].name) == 1) {
            write_down(q->did.capabilities, capabilities[i].name, false);
        }
    }
    query_int(json_object_get(found, "max-bandwidth"), &bandwidth);
    did->has_numbers = bandwidth == FREE_BANDWIDTH;
    did->max_bandwidth = DEFAULT_BANDWIDTH;
    did->downtime_limit = DOWNTIME_LIMIT;
    ledger_set(q->did.capabilities, true);
    ledger_set(did, true);
    return 0;
}
