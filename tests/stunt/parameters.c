/* SPDX-License-Identifier: Apache-2.0 */
#include "parameters.h"

#include <string.h>

static const char *const capability_names[] = {
    "xbzrle",           "rdma-pin-all",  "auto-converge",       "zero-blocks",
    "compress",         "events",        "postcopy-ram",        "x-colo",
    "release-ram",      "block",         "return-path",         "pause-before-switchover",
    "multifd",          "dirty-bitmaps", "postcopy-blocktime",  "late-block-activate",
    "x-ignore-shared",  "validate-uuid", "background-snapshot", "zero-copy-send",
    "postcopy-preempt",
};

static const char defaults[] =
    "{\"cpu-throttle-tailslow\": false, \"xbzrle-cache-size\": 67108864, \"cpu-throttle-initial\": 20,"
    " \"announce-max\": 550, \"decompress-threads\": 2, \"compress-threads\": 8, \"compress-level\": 1,"
    " \"multifd-channels\": 2, \"multifd-zstd-level\": 1, \"announce-initial\": 50, \"block-incremental\": false,"
    " \"compress-wait-thread\": true, \"downtime-limit\": 300, \"tls-authz\": \"\", \"multifd-compression\": \"none\","
    " \"announce-rounds\": 5, \"announce-step\": 100, \"tls-creds\": \"\", \"multifd-zlib-level\": 1,"
    " \"max-cpu-throttle\": 99, \"max-postcopy-bandwidth\": 0, \"tls-hostname\": \"\","
    " \"throttle-trigger-threshold\": 50, \"max-bandwidth\": 134217728, \"x-checkpoint-delay\": 20000,"
    " \"cpu-throttle-increment\": 10}";

int parameters_open(struct parameters *parameters, struct error *err) {
    parameters->values = json_loads(defaults, 0, NULL);
    parameters->capabilities = json_object();
    for (size_t i = 0; i < sizeof(capability_names) / sizeof(capability_names[0]); i++) {
        json_object_set_new(parameters->capabilities, capability_names[i], json_false());
    }
    return parameters->values != NULL ? 0 : error_set(err, ERROR_SYSTEM, "the table of parameters is no JSON");
}

void parameters_close(struct parameters *parameters) {
    json_decref(parameters->values);
    json_decref(parameters->capabilities);
    *parameters = (struct parameters){ 0 };
}

bool parameters_capability(const struct parameters *parameters, const char *name) {
    return json_is_true(json_object_get(parameters->capabilities, name));
}

json_t *parameters_list_capabilities(const struct parameters *parameters) {
    json_t *list = json_array();
    const char *name;
    json_t *state;
    json_object_foreach(parameters->capabilities, name, state) {
        json_array_append_new(list, json_pack("{s:O, s:s}", "state", state, "capability", name));
    }
    return list;
}

int parameters_set_capabilities(struct parameters *parameters, const json_t *list, struct error *err) {
    json_t *all = json_copy(parameters->capabilities);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *name = json_string_value(json_object_get(item, "capability"));
        json_t *state = json_object_get(item, "state");
        if (name == NULL) {
            error_set(err, ERROR_VMM, "Parameter 'capabilities[%zu].capability' is missing", i);
        } else if (!json_is_boolean(state)) {
            error_set(err, ERROR_VMM, "Parameter 'capabilities[%zu].state' is missing", i);
        } else if (json_object_get(all, name) == NULL) {
            error_set(err, ERROR_VMM, "Parameter 'capability' does not accept value '%s'", name);
        } else {
            json_object_set(all, name, state);
        }
    }
    if (error_is_set(err)) {
        json_decref(all);
        return -1;
    }
    json_decref(parameters->capabilities);
    parameters->capabilities = all;
    return 0;
}

static int check_value(const char *name, const json_t *old, const json_t *value, struct error *err) {
    if (old == NULL) {
        return error_set(err, ERROR_VMM, "Parameter '%s' is unexpected", name);
    }
    bool alike = json_is_boolean(old) ? json_is_boolean(value) : json_typeof(old) == json_typeof(value);
    bool reset = json_is_null(value) && strncmp(name, "tls-", 4) == 0;
    if (!alike && !reset) {
        return error_set(err, ERROR_VMM, "Invalid parameter type for '%s', expected: %s", name,
                         json_is_integer(old)   ? "integer"
                         : json_is_boolean(old) ? "boolean"
                                                : "string");
    }
    json_int_t number = json_integer_value(value);
    if (strcmp(name, "downtime-limit") == 0 && (number < 0 || number > 2000000)) {
        return error_set(err, ERROR_VMM,
                         "Parameter 'downtime_limit' expects an integer in the range of 0 to 2000 seconds");
    }
    return 0;
}

int parameters_set_values(struct parameters *parameters, json_t *values, struct error *err) {
    const char *name;
    json_t *value;
    json_object_foreach(values, name, value) {
        if (check_value(name, json_object_get(parameters->values, name), value, err) < 0) {
            return -1;
        }
    }
    json_object_foreach(values, name, value) {
        json_object_set_new(parameters->values, name, json_is_null(value) ? json_string("") : json_incref(value));
    }
    return 0;
}
