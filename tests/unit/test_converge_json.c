/* SPDX-License-Identifier: Apache-2.0 */
/* Samples as events, there and back, and events of whole migrations put through converge_step() again. The argument is
 * the folder of the traces. */
#include "policy/converge_json.h"
#include "support.h"

#include <math.h>
#include <stdio.h>

static const char *traces;

static const struct converge_input sample = {
    .now = INT64_C(1234567890123456789),
    .started = INT64_C(1234567000000000000),
    .ram = UINT64_C(1) << 44,
    .remaining = 4096,
    .wire_rate = 117649000.1,
    .ratio = 1 / 3.0,
    .dirty_rate = -1,
    .dirty_interval = 50000001,
    .pass = 7,
    .pass_ended = true,
    .pass_sent = 3,
    .pass_dirtied = 5,
    .pass_time = 11,
    .throttle = 99,
    .can_throttle = true,
    .overhead = 30000000,
};

static const struct converge_config parameters = {
    .policy = CONVERGE_STAGED,
    .trigger_threshold = 50,
    .initial = 20,
    .increment = 10,
    .max = 99,
    .downtime_limit = 300000000,
    .completion_timeout = 1,
    .progress_timeout = 60000000000,
    .timeout_action = CONVERGE_TIMEOUT_POSTCOPY,
    .force = true,
};

/* Through text, as in a file. */
static json_t *there_and_back(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    object = json_loads(text, 0, NULL);
    assert_non_null(object);
    free(text);
    return object;
}

static void round_trip(void **state) {
    (void)state;
    struct error err = { 0 };
    struct converge_input in;
    json_t *object = there_and_back(converge_input_json(&sample, NULL));
    assert_ok(converge_input_parse(object, &in, &err) == 0, &err);
    json_t *again = converge_input_json(&in, NULL);
    assert_true(json_equal(object, again));
    assert_true(in.now == sample.now && in.remaining == sample.remaining && in.pass_ended && in.can_throttle);
    assert_memory_equal(&in.wire_rate, &sample.wire_rate, sizeof(double));
    assert_memory_equal(&in.ratio, &sample.ratio, sizeof(double));
    json_decref(object);
    json_decref(again);

    struct converge_config config;
    object = there_and_back(converge_config_json(&parameters));
    assert_ok(converge_config_parse(object, &config, &err) == 0, &err);
    again = converge_config_json(&config);
    assert_true(json_equal(object, again));
    assert_int_equal(config.policy, CONVERGE_STAGED);
    assert_int_equal(config.timeout_action, CONVERGE_TIMEOUT_POSTCOPY);
    json_decref(object);
    json_decref(again);
}

static void the_decision_is_beside_it(void **state) {
    (void)state;
    struct converge_decision decision = { CONVERGE_GO_ON, 80, true, 5, "because" };
    json_t *object = converge_input_json(&sample, &decision);
    assert_string_equal(json_string_value(json_object_get(object, "action")), "go-on");
    assert_int_equal(json_integer_value(json_object_get(object, "throttle")), 99);
    assert_int_equal(json_integer_value(json_object_get(object, "throttle-next")), 80);
    assert_string_equal(json_string_value(json_object_get(object, "reason")), "because");
    json_decref(object);
}

static void what_is_not_finite(void **state) {
    (void)state;
    struct error err = { 0 };
    struct converge_input in = sample;
    in.wire_rate = INFINITY;
    in.dirty_rate = NAN;
    json_t *object = converge_input_json(&in, NULL);
    assert_ok(converge_input_parse(object, &in, &err) == 0, &err);
    assert_true(in.wire_rate < 0 && in.dirty_rate < 0);
    json_decref(object);
}

static void refused_input(const char *name, json_t *value, const char *text) {
    struct error err = { 0 };
    struct converge_input in;
    json_t *object = converge_input_json(&sample, NULL);
    if (value != NULL) {
        json_object_set_new(object, name, value);
    } else {
        json_object_del(object, name);
    }
    assert_refused(converge_input_parse(object, &in, &err), &err, ERROR_USAGE, text);
    json_decref(object);
}

static void refused_config(const char *name, json_t *value) {
    struct error err = { 0 };
    struct converge_config config;
    json_t *object = converge_config_json(&parameters);
    json_object_set_new(object, name, value);
    assert_refused(converge_config_parse(object, &config, &err), &err, ERROR_USAGE, name);
    json_decref(object);
}

static void what_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct converge_input in;
    refused_input("pass-time", NULL, "pass-time is missing");
    refused_input("remaining", json_integer(-1), "remaining is not");
    refused_input("pass", json_integer(INT64_C(1) << 32), "pass is not");
    refused_input("now", json_real(1), "now is not");
    refused_input("ratio", json_string("1"), "ratio is not");
    refused_input("pass-ended", json_integer(1), "pass-ended is not");
    refused_config("policy", json_string("gentle"));
    refused_config("policy", json_integer(1));
    refused_config("timeout-action", json_null());
    assert_refused(converge_input_parse(NULL, &in, &err), &err, ERROR_USAGE, "now is missing");
}

struct replay {
    struct converge_config config;
    struct converge_state state;
    unsigned steps;
};

static void replay_line(struct replay *r, json_t *line, const char *where) {
    struct error err = { 0 };
    const char *event = json_string_value(json_object_get(line, "event"));
    assert_non_null(event);
    if (strcmp(event, "converge-config") == 0) {
        assert_ok(converge_config_parse(line, &r->config, &err) == 0, &err);
        return;
    }
    if (strcmp(event, "converge") != 0) {
        return;
    }
    struct converge_input in;
    struct converge_decision decision;
    assert_ok(converge_input_parse(line, &in, &err) == 0, &err);
    converge_step(&r->config, &in, &r->state, &decision);
    r->steps++;
    if (strcmp(converge_action_name(decision.action), json_string_value(json_object_get(line, "action"))) != 0 ||
        decision.throttle != json_integer_value(json_object_get(line, "throttle-next")) ||
        decision.offer_force != json_is_true(json_object_get(line, "offer-force"))) {
        fail_msg("%s, step %u: %s, throttle %u, '%s'", where, r->steps, converge_action_name(decision.action),
                 decision.throttle, decision.reason);
    }
}

static void replay_path(const char *path) {
    static char line[1 << 16];
    struct replay r = { 0 };
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fail_msg("no %s", path);
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        replay_line(&r, object, path);
        json_decref(object);
    }
    fclose(file);
    print_message("%s: %u decisions\n", path, r.steps);
    assert_true(r.steps > 3);
}

static void replay_file(const char *name) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", traces, name);
    replay_path(path);
}

/* What --events of a run has written decides the same again. */
static void a_run(void **state) {
    replay_path(*state);
}

/* Recorded decisions are what is decided now. Where a policy was changed on purpose they are made anew
 * (test_converge_model --trace). */
static void recorded_migrations(void **state) {
    (void)state;
    replay_file("uniform-rate.json");
    replay_file("uniform-staged.json");
    replay_file("uniform-stepped.json");
    replay_file("lulls-rate.json");
    replay_file("parameters-changed.json");
}

static int replay_run(char *path) {
    const struct CMUnitTest tests[] = { cmocka_unit_test_prestate(a_run, path) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* DIRECTORY of traces, or --events FILE of a run. */
int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--events") == 0) {
        return replay_run(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),          cmocka_unit_test(the_decision_is_beside_it),
        cmocka_unit_test(what_is_not_finite),  cmocka_unit_test(what_is_refused),
        cmocka_unit_test(recorded_migrations),
    };
    traces = argc > 1 ? argv[1] : "tests/unit/traces";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
