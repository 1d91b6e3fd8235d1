/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/converge_json.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum kind { SIGNED, UNSIGNED_64, UNSIGNED, REAL, BOOL, POLICY, TIMEOUT };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
};

#define INPUT(name, kind, member)                                                                                      \
    { name, kind, offsetof(struct converge_input, member) }
#define CONFIG(name, kind, member)                                                                                     \
    { name, kind, offsetof(struct converge_config, member) }

static const struct field input_fields[] = {
    INPUT("now", SIGNED, now),
    INPUT("started", SIGNED, started),
    INPUT("ram", UNSIGNED_64, ram),
    INPUT("remaining", UNSIGNED_64, remaining),
    INPUT("wire-rate", REAL, wire_rate),
    INPUT("ratio", REAL, ratio),
    INPUT("dirty-rate", REAL, dirty_rate),
    INPUT("dirty-interval", SIGNED, dirty_interval),
    INPUT("pass", UNSIGNED, pass),
    INPUT("pass-ended", BOOL, pass_ended),
    INPUT("pass-sent", UNSIGNED_64, pass_sent),
    INPUT("pass-dirtied", UNSIGNED_64, pass_dirtied),
    INPUT("pass-time", SIGNED, pass_time),
    INPUT("throttle", UNSIGNED, throttle),
    INPUT("can-throttle", BOOL, can_throttle),
    INPUT("overhead", SIGNED, overhead),
    { NULL, SIGNED, 0 },
};

static const struct field config_fields[] = {
    CONFIG("policy", POLICY, policy),
    CONFIG("trigger-threshold", UNSIGNED, trigger_threshold),
    CONFIG("initial", UNSIGNED, initial),
    CONFIG("increment", UNSIGNED, increment),
    CONFIG("max", UNSIGNED, max),
    CONFIG("downtime-limit", SIGNED, downtime_limit),
    CONFIG("completion-timeout", SIGNED, completion_timeout),
    CONFIG("progress-timeout", SIGNED, progress_timeout),
    CONFIG("timeout-action", TIMEOUT, timeout_action),
    CONFIG("force", BOOL, force),
    { NULL, SIGNED, 0 },
};

static json_t *field_json(const struct field *f, const void *from) {
    const void *at = (const char *)from + f->offset;
    switch (f->kind) {
    case SIGNED:
        return json_integer(*(const int64_t *)at);
    case UNSIGNED_64:
        return json_integer((json_int_t)(*(const uint64_t *)at & INT64_MAX));
    case UNSIGNED:
        return json_integer(*(const unsigned *)at);
    case REAL:
        return json_real(isfinite(*(const double *)at) ? *(const double *)at : -1);
    case BOOL:
        return json_boolean(*(const bool *)at);
    case POLICY:
        return json_string(converge_policy_name(*(const enum converge_policy *)at));
    case TIMEOUT:
        return json_string(converge_timeout_name(*(const enum converge_timeout *)at));
    }
    return NULL;
}

static json_t *fields_json(const struct field *fields, const void *from) {
    json_t *object = json_object();
    for (const struct field *f = fields; f->name != NULL; f++) {
        json_object_set_new(object, f->name, field_json(f, from));
    }
    return object;
}

json_t *converge_input_json(const struct converge_input *in, const struct converge_decision *decision) {
    json_t *object = fields_json(input_fields, in);
    if (decision != NULL) {
        json_object_set_new(object, "action", json_string(converge_action_name(decision->action)));
        json_object_set_new(object, "throttle-next", json_integer(decision->throttle));
        json_object_set_new(object, "offer-force", json_boolean(decision->offer_force));
        json_object_set_new(object, "downtime", json_integer(decision->downtime));
        json_object_set_new(object, "reason", json_string(decision->reason));
    }
    return object;
}

json_t *converge_config_json(const struct converge_config *config) {
    return fields_json(config_fields, config);
}

static bool take_integer(const json_t *value, json_int_t least, json_int_t most) {
    return json_is_integer(value) && json_integer_value(value) >= least && json_integer_value(value) <= most;
}

static bool take_policy(const json_t *value, enum converge_policy *to) {
    for (int i = CONVERGE_NONE; i <= CONVERGE_RATE && json_is_string(value); i++) {
        *to = (enum converge_policy)i;
        if (strcmp(json_string_value(value), converge_policy_name(*to)) == 0) {
            return true;
        }
    }
    return false;
}

static bool take_timeout(const json_t *value, enum converge_timeout *to) {
    for (int i = CONVERGE_TIMEOUT_ABORT; i <= CONVERGE_TIMEOUT_POSTCOPY && json_is_string(value); i++) {
        *to = (enum converge_timeout)i;
        if (strcmp(json_string_value(value), converge_timeout_name(*to)) == 0) {
            return true;
        }
    }
    return false;
}

/* False when `value` (NULL: not there) is not what the field takes. */
static bool take(const struct field *f, const json_t *value, void *to) {
    void *at = (char *)to + f->offset;
    switch (f->kind) {
    case SIGNED:
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value);
    case UNSIGNED_64:
        *(uint64_t *)at = (uint64_t)json_integer_value(value);
        return take_integer(value, 0, INT64_MAX);
    case UNSIGNED:
        *(unsigned *)at = (unsigned)json_integer_value(value);
        return take_integer(value, 0, UINT_MAX);
    case REAL:
        *(double *)at = json_number_value(value);
        return json_is_number(value);
    case BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case POLICY:
        return take_policy(value, at);
    case TIMEOUT:
        return take_timeout(value, at);
    }
    return false;
}

static int fields_parse(const struct field *fields, json_t *object, void *to, struct error *err) {
    for (const struct field *f = fields; f->name != NULL; f++) {
        const json_t *value = json_object_get(object, f->name);
        if (!take(f, value, to)) {
            return error_set(err, ERROR_USAGE, "%s is %s", f->name, value == NULL ? "missing" : "not what it must be");
        }
    }
    return 0;
}

int converge_input_parse(json_t *object, struct converge_input *in, struct error *err) {
    *in = (struct converge_input){ 0 };
    return fields_parse(input_fields, object, in, err);
}

int converge_config_parse(json_t *object, struct converge_config *config, struct error *err) {
    *config = (struct converge_config){ 0 };
    return fields_parse(config_fields, object, config, err);
}
