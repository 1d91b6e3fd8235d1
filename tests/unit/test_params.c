/* SPDX-License-Identifier: Apache-2.0 */
#include "params/params.h"
#include "policy/converge.h"
#include "support.h"

static struct params set(const char *assignment) {
    struct params p;
    struct error err = { 0 };
    params_init(&p);
    assert_ok(params_set(&p, assignment, &err) == 0, &err);
    return p;
}

static void takes(const char *assignment, enum param param, int64_t value) {
    struct params p = set(assignment);
    assert_true(p.value[param] == value);
    for (int i = 0; i < PARAM_COUNT; i++) {
        assert_int_equal(p.set[i], i == (int)param);
    }
}

static void refuses(const char *assignment, const char *text) {
    struct params p, before;
    struct error err = { 0 };
    params_init(&p);
    before = p;
    assert_refused(params_set(&p, assignment, &err), &err, ERROR_USAGE, text);
    for (int i = 0; i < PARAM_COUNT; i++) { /* nothing of it is kept */
        assert_true(p.value[i] == before.value[i]);
        assert_false(p.set[i]);
    }
}

static void defaults(void **state) {
    (void)state;
    struct params p;
    params_init(&p);
    assert_int_equal(p.value[PARAM_DOWNTIME_LIMIT], 300);
    assert_int_equal(p.value[PARAM_MAX_BANDWIDTH], 0);
    assert_int_equal(p.value[PARAM_PAGES_PER_BATCH], 128);
    assert_int_equal(p.value[PARAM_COMPRESSION], PARAM_COMPRESSION_AUTO);
    assert_int_equal(p.value[PARAM_AUTOSTART], 1);
    assert_int_equal(p.value[PARAM_SOURCE_QUIT], 0);
}

static void ranges(void **state) {
    (void)state;
    takes("downtime-limit=0", PARAM_DOWNTIME_LIMIT, 0);
    takes("downtime-limit=2000000", PARAM_DOWNTIME_LIMIT, 2000000);
    refuses("downtime-limit=2000001", "0..2000000");
    refuses("pages-per-batch=0", "1..1024");
    takes("pages-per-batch=1", PARAM_PAGES_PER_BATCH, 1);
    takes("pages-per-batch=1024", PARAM_PAGES_PER_BATCH, 1024);
    refuses("pages-per-batch=1025", "1..1024");
    takes("channels=0", PARAM_CHANNELS, 0);
    takes("channels=64", PARAM_CHANNELS, 64);
    refuses("channels=65", "0..64");
    refuses("lz4-acceleration=0", "1..65537");
    takes("lz4-acceleration=65537", PARAM_LZ4_ACCELERATION, 65537);
    refuses("lz4-acceleration=65538", "1..65537");
    refuses("link-timeout=1", "2..3600");
    takes("link-timeout=2", PARAM_LINK_TIMEOUT, 2);
    takes("link-timeout=3600", PARAM_LINK_TIMEOUT, 3600);
    refuses("link-timeout=3601", "2..3600");
}

static void units(void **state) {
    (void)state;
    takes("max-bandwidth=1000", PARAM_MAX_BANDWIDTH, 1000);
    takes("max-bandwidth=1K", PARAM_MAX_BANDWIDTH, 1024);
    takes("max-bandwidth=3M", PARAM_MAX_BANDWIDTH, 3 << 20);
    takes("max-bandwidth=10G", PARAM_MAX_BANDWIDTH, INT64_C(10) << 30);
    takes("max-bandwidth=9223372036854775807", PARAM_MAX_BANDWIDTH, INT64_MAX);
    takes("max-bandwidth=8589934591G", PARAM_MAX_BANDWIDTH, INT64_C(8589934591) << 30);
    takes("max-bandwidth=1T", PARAM_MAX_BANDWIDTH, INT64_C(1) << 40);
    takes("max-bandwidth=1gbit", PARAM_MAX_BANDWIDTH, 125000000);
    takes("downtime-limit=300ms", PARAM_DOWNTIME_LIMIT, 300);
    takes("downtime-limit=2s", PARAM_DOWNTIME_LIMIT, 2000);
    takes("link-timeout=1min", PARAM_LINK_TIMEOUT, 60);
    takes("xbzrle-cache-size=128M", PARAM_XBZRLE_CACHE_SIZE, 128 << 20);
    takes("max-cpu-throttle=30%", PARAM_MAX_CPU_THROTTLE, 30);
    takes("cpu-budget=200%", PARAM_CPU_BUDGET, 200);
    refuses("downtime-limit=1K", "0..2000000 ms; for example 300, 300ms or 2s");
    refuses("downtime-limit=2000001", "0..2000000 ms; for example 300, 300ms or 2s");
    refuses("downtime-limit=2000.001s", "0..2000000 ms");
    refuses("link-timeout=1999ms", "2..3600 s, and whole; for example 60, 60s or 5min");
    takes("link-timeout=2000ms", PARAM_LINK_TIMEOUT, 2);
    takes("link-timeout=1h", PARAM_LINK_TIMEOUT, 3600);
    refuses("link-timeout=61min", "2..3600 s");
    refuses("max-cpu-throttle=100%", "1..99 %; for example 30 or 30%");
    refuses("max-cpu-throttle=0%", "1..99 %");
    refuses("channels=4K", "must be 0..64");
    refuses("pages-per-batch=1M", "1..1024 pages; for example 128");
    static const char *const wrong[] = {
        "max-bandwidth=8589934592G",
        "max-bandwidth=9223372036854775808",
        "max-bandwidth=99999999999999999999999",
        "max-bandwidth=-1",
        "max-bandwidth=-0",
        "max-bandwidth=+1",
        "max-bandwidth= 1",
        "max-bandwidth=1 ",
        "max-bandwidth=",
        "max-bandwidth=K",
        "max-bandwidth=1k",
        "max-bandwidth=1KK",
        "max-bandwidth=1.5",
        "max-bandwidth=0x10",
        "max-bandwidth=1KB",
        "max-bandwidth=\t7",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(wrong[i], "0 or more bytes/s");
    }
}

static void words(void **state) {
    (void)state;
    takes("compression=auto", PARAM_COMPRESSION, PARAM_COMPRESSION_AUTO);
    takes("compression=none", PARAM_COMPRESSION, PARAM_COMPRESSION_NONE);
    takes("compression=lz4", PARAM_COMPRESSION, PARAM_COMPRESSION_LZ4);
    takes("autostart=off", PARAM_AUTOSTART, 0);
    takes("source-quit=on", PARAM_SOURCE_QUIT, 1);
    takes("tracker=sync", PARAM_TRACKER, 2);
    refuses("compression=gzip", "auto, none, lz4");
    refuses("compression=LZ4", "auto, none, lz4");
    refuses("compression=", "auto, none, lz4");
    refuses("compression=2", "auto, none, lz4");
    refuses("autostart=yes", "off, on");
    refuses("autostart=1", "off, on");
    refuses("tracker=", "auto, async, sync");
}

static void what_is_not_there(void **state) {
    (void)state;
    refuses("no-such=1", "there is no parameter 'no-such'");
    refuses("=1", "there is no parameter ''");
    refuses("channel=1", "no parameter 'channel'");
    refuses("channelss=1", "no parameter 'channelss'");
    refuses("Channels=1", "no parameter");
    refuses("channels", "NAME=VALUE");
    refuses("", "NAME=VALUE");
}

static json_t *json(const char *text) {
    json_error_t why;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &why);
    if (value == NULL) {
        fail_msg("%s: %s", text, why.text);
    }
    return value;
}

static int set_json(struct params *p, const char *text, bool live, struct error *err) {
    json_t *object = json(text);
    int rc = params_set_json(p, object, live, err);
    json_decref(object);
    return rc;
}

static void json_values(void **state) {
    (void)state;
    struct params p;
    struct error err = { 0 };
    params_init(&p);
    assert_ok(set_json(&p, "{\"downtime-limit\": 55, \"compression\": \"lz4\", \"autostart\": false}", false, &err) ==
                  0,
              &err);
    assert_int_equal(p.value[PARAM_DOWNTIME_LIMIT], 55);
    assert_int_equal(p.value[PARAM_COMPRESSION], PARAM_COMPRESSION_LZ4);
    assert_int_equal(p.value[PARAM_AUTOSTART], 0);
    assert_ok(set_json(&p, "{\"max-bandwidth\": \"2M\", \"source-quit\": \"on\", \"autostart\": true}", false, &err) ==
                  0,
              &err);
    assert_int_equal(p.value[PARAM_MAX_BANDWIDTH], 2 << 20);
    assert_int_equal(p.value[PARAM_SOURCE_QUIT], 1);
    assert_int_equal(p.value[PARAM_AUTOSTART], 1);
    assert_ok(set_json(&p, "{}", false, &err) == 0, &err);
}

static void json_is_all_or_nothing(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "{\"downtime-limit\": 1, \"pages-per-batch\": 0}",
        "{\"downtime-limit\": 1, \"no-such\": 1}",
        "{\"downtime-limit\": 1, \"channels\": -1}",
        "{\"downtime-limit\": 1, \"channels\": 1.0}",
        "{\"downtime-limit\": 1, \"channels\": true}",
        "{\"downtime-limit\": 1, \"channels\": null}",
        "{\"downtime-limit\": 1, \"channels\": [1]}",
        "{\"downtime-limit\": 1, \"channels\": {}}",
        "{\"downtime-limit\": 1, \"compression\": 1}",
        "{\"downtime-limit\": 1, \"compression\": true}",
        "{\"downtime-limit\": 1, \"autostart\": 1}",
        "[]",
        "1",
        "\"text\"",
        "null",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct params p = set("downtime-limit=77");
        struct error err = { 0 };
        assert_refused(set_json(&p, wrong[i], false, &err), &err, ERROR_USAGE, NULL);
        assert_int_equal(p.value[PARAM_DOWNTIME_LIMIT], 77);
        assert_int_equal(p.value[PARAM_CHANNELS], 0);
    }
    struct params p = set("channels=1");
    struct error err = { 0 };
    assert_refused(params_set_json(&p, NULL, false, &err), &err, ERROR_USAGE, "must be an object");
}

static void only_some_change_while_running(void **state) {
    (void)state;
    struct params p;
    struct error err = { 0 };
    params_init(&p);
    assert_ok(set_json(&p, "{\"max-bandwidth\": 5, \"downtime-limit\": 6, \"compression\": \"none\"}", true, &err) == 0,
              &err);
    assert_refused(set_json(&p, "{\"channels\": 2}", true, &err), &err, ERROR_USAGE, "channels cannot be changed");
    assert_refused(set_json(&p, "{\"autostart\": true}", true, &err), &err, ERROR_USAGE, "cannot be changed");
    assert_refused(set_json(&p, "{\"max-bandwidth\": 9, \"tracker\": \"sync\"}", true, &err), &err, ERROR_USAGE,
                   "cannot be changed");
    assert_int_equal(p.value[PARAM_MAX_BANDWIDTH], 5);
}

static void as_json(void **state) {
    (void)state;
    struct params p = set("compression=lz4"), back;
    struct error err = { 0 };
    assert_ok(params_set(&p, "autostart=off", &err) == 0, &err);
    assert_ok(params_set(&p, "max-bandwidth=1G", &err) == 0, &err);
    json_t *some = params_json(&p, false), *all = params_json(&p, true);
    assert_int_equal(json_object_size(some), 3);
    assert_int_equal(json_object_size(all), PARAM_COUNT);
    assert_true(json_is_false(json_object_get(some, "autostart")));
    assert_string_equal(json_string_value(json_object_get(some, "compression")), "lz4");
    params_init(&back);
    assert_ok(params_set_json(&back, all, false, &err) == 0, &err); /* what we print we read */
    assert_memory_equal(back.value, p.value, sizeof(p.value));
    json_decref(some);
    json_decref(all);
}

/* Merges `source` (JSON) into a destination that has set `destination` (NULL: nothing). */
static struct params merged(const char *destination, const char *source) {
    struct params p;
    struct error err = { 0 };
    params_init(&p);
    if (destination != NULL) {
        assert_ok(params_set(&p, destination, &err) == 0, &err);
    }
    json_t *object = json(source);
    assert_ok(params_merge(&p, object, &err) == 0, &err);
    json_decref(object);
    return p;
}

static void who_says_something_is_heard(void **state) {
    (void)state;
    struct params p = merged(NULL, "{\"channels\": 7, \"autostart\": false, \"compression\": \"lz4\"}");
    assert_int_equal(p.value[PARAM_CHANNELS], 7);
    assert_int_equal(p.value[PARAM_AUTOSTART], 0);
    assert_int_equal(p.value[PARAM_COMPRESSION], PARAM_COMPRESSION_LZ4);
    assert_true(p.set[PARAM_CHANNELS] && p.set[PARAM_AUTOSTART] && p.set[PARAM_COMPRESSION]);
    assert_false(p.set[PARAM_TRACKER]);
    p = merged("channels=3", "{}");
    assert_int_equal(p.value[PARAM_CHANNELS], 3);
    p = merged("autostart=off", "{\"channels\": 7}");
    assert_int_equal(p.value[PARAM_AUTOSTART], 0);
    assert_int_equal(p.value[PARAM_CHANNELS], 7);
}

static void the_stricter_limit_holds(void **state) {
    (void)state;
    static const struct {
        const char *destination, *source;
        enum param param;
        int64_t value;
    } rows[] = {
        { "max-bandwidth=100", "{\"max-bandwidth\": 200}", PARAM_MAX_BANDWIDTH, 100 },
        { "max-bandwidth=200", "{\"max-bandwidth\": 100}", PARAM_MAX_BANDWIDTH, 100 },
        { "max-bandwidth=0", "{\"max-bandwidth\": 100}", PARAM_MAX_BANDWIDTH, 100 },
        { "max-bandwidth=100", "{\"max-bandwidth\": 0}", PARAM_MAX_BANDWIDTH, 100 },
        { "max-bandwidth=0", "{\"max-bandwidth\": 0}", PARAM_MAX_BANDWIDTH, 0 },
        { "channels=8", "{\"channels\": 0}", PARAM_CHANNELS, 8 },
        { "channels=8", "{\"channels\": 2}", PARAM_CHANNELS, 2 },
        { "pages-per-batch=64", "{\"pages-per-batch\": 1024}", PARAM_PAGES_PER_BATCH, 64 },
        { "link-timeout=30", "{\"link-timeout\": 5}", PARAM_LINK_TIMEOUT, 5 },
        /* no downtime at all is the strictest, not the laxest */
        { "downtime-limit=0", "{\"downtime-limit\": 500}", PARAM_DOWNTIME_LIMIT, 0 },
        { "downtime-limit=500", "{\"downtime-limit\": 0}", PARAM_DOWNTIME_LIMIT, 0 },
        { "downtime-limit=500", "{\"downtime-limit\": 100}", PARAM_DOWNTIME_LIMIT, 100 },
        { "downtime-limit=100", "{\"downtime-limit\": 500}", PARAM_DOWNTIME_LIMIT, 100 },
        /* auto is downtime-limit + 2000 */
        { "stop-limit=2299", "{\"stop-limit\": \"auto\"}", PARAM_STOP_LIMIT, 2299 },
        { "stop-limit=2301", "{\"stop-limit\": \"auto\"}", PARAM_STOP_LIMIT, PARAM_AUTO },
        { "stop-limit=auto", "{\"stop-limit\": 2301}", PARAM_STOP_LIMIT, PARAM_AUTO },
        { "stop-limit=auto", "{\"stop-limit\": 0}", PARAM_STOP_LIMIT, PARAM_AUTO },
        { "stop-limit=auto", "{\"stop-limit\": 2500, \"downtime-limit\": 1000}", PARAM_STOP_LIMIT, 2500 },
        { "stop-limit=0", "{\"stop-limit\": 100}", PARAM_STOP_LIMIT, 100 },
        { "stop-limit=0", "{\"stop-limit\": 0}", PARAM_STOP_LIMIT, 0 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct params p = merged(rows[i].destination, rows[i].source);
        assert_int_equal(p.value[rows[i].param], rows[i].value);
        assert_true(p.set[rows[i].param]);
    }
}

static void each_side_decides_its_own(void **state) {
    (void)state;
    struct params p = merged("autostart=off", "{\"autostart\": true}");
    assert_int_equal(p.value[PARAM_AUTOSTART], 0);
    p = merged("autostart=on", "{\"autostart\": false}");
    assert_int_equal(p.value[PARAM_AUTOSTART], 1);
    p = merged("compression=none", "{\"compression\": \"lz4\"}");
    assert_int_equal(p.value[PARAM_COMPRESSION], PARAM_COMPRESSION_LZ4);
    p = merged("source-quit=on", "{\"source-quit\": false}");
    assert_int_equal(p.value[PARAM_SOURCE_QUIT], 0);
    p = merged("tracker=async", "{\"tracker\": \"sync\"}");
    assert_int_equal(p.value[PARAM_TRACKER], 2);
    p = merged("lz4-acceleration=9", "{\"lz4-acceleration\": 20}");
    assert_int_equal(p.value[PARAM_LZ4_ACCELERATION], 20);
}

/* What a source that has set `own` (NULL: nothing) has after the destination's answer. */
static struct params adopted(const char *own, const char *agreed) {
    struct params p = own != NULL ? set(own) : (struct params){ 0 };
    struct error err = { 0 };
    if (own == NULL) {
        params_init(&p);
    }
    json_t *object = json(agreed);
    assert_ok(params_adopt(&p, object, &err) == 0, &err);
    json_decref(object);
    return p;
}

static void a_destination_makes_nothing_worse_for_the_guest(void **state) {
    (void)state;
    static const struct {
        const char *own, *agreed;
        enum param param;
        int64_t value;
    } rows[] = {
        { NULL, "{\"timeout-action\": \"force\"}", PARAM_TIMEOUT_ACTION, CONVERGE_TIMEOUT_ABORT },
        { NULL, "{\"completion-timeout\": 1}", PARAM_COMPLETION_TIMEOUT, 0 },
        { "completion-timeout=100", "{\"completion-timeout\": 1}", PARAM_COMPLETION_TIMEOUT, 100 },
        { NULL, "{\"progress-timeout\": 1}", PARAM_PROGRESS_TIMEOUT, 60 },
        { NULL, "{\"throttle-policy\": \"staged\"}", PARAM_THROTTLE_POLICY, CONVERGE_RATE },
        { NULL, "{\"cpu-throttle-initial\": 99}", PARAM_CPU_THROTTLE_INITIAL, 20 },
        { NULL, "{\"cpu-throttle-increment\": 99}", PARAM_CPU_THROTTLE_INCREMENT, 10 },
        { NULL, "{\"throttle-trigger-threshold\": 1}", PARAM_THROTTLE_TRIGGER_THRESHOLD, 50 },
        /* limits of what the guest suffers: only stricter ones, than the default too */
        { NULL, "{\"max-cpu-throttle\": 20}", PARAM_MAX_CPU_THROTTLE, 20 },
        { "max-cpu-throttle=10", "{\"max-cpu-throttle\": 20}", PARAM_MAX_CPU_THROTTLE, 10 },
        { NULL, "{\"downtime-limit\": 100}", PARAM_DOWNTIME_LIMIT, 100 },
        { NULL, "{\"downtime-limit\": 1000}", PARAM_DOWNTIME_LIMIT, 300 },
        { NULL, "{\"stop-limit\": 0}", PARAM_STOP_LIMIT, PARAM_AUTO },
        { NULL, "{\"stop-limit\": 100000}", PARAM_STOP_LIMIT, PARAM_AUTO },
        { NULL, "{\"stop-limit\": 1000}", PARAM_STOP_LIMIT, 1000 },
        { "stop-limit=0", "{\"stop-limit\": 1000}", PARAM_STOP_LIMIT, 1000 },
        { "stop-limit=0", "{\"stop-limit\": 0}", PARAM_STOP_LIMIT, 0 },
        /* what is no harm to it goes on being heard */
        { NULL, "{\"compression\": \"lz4\"}", PARAM_COMPRESSION, PARAM_COMPRESSION_LZ4 },
        { NULL, "{\"channels\": 8}", PARAM_CHANNELS, 8 },
        { NULL, "{\"max-bandwidth\": 100}", PARAM_MAX_BANDWIDTH, 100 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct params p = adopted(rows[i].own, rows[i].agreed);
        assert_int_equal(p.value[rows[i].param], rows[i].value);
    }
}

static void the_stop_limit_follows_the_downtime_limit(void **state) {
    (void)state;
    struct params p = set("downtime-limit=500");
    assert_int_equal(params_stop_limit(&p), 2500 * CLOCK_MS);
    p = set("stop-limit=70");
    assert_int_equal(params_stop_limit(&p), 70 * CLOCK_MS);
    p = set("stop-limit=0");
    assert_true(params_stop_limit(&p) == INT64_MAX);
}

static void a_bad_source_changes_nothing(void **state) {
    (void)state;
    struct params p = set("channels=3");
    struct error err = { 0 };
    json_t *object = json("{\"max-bandwidth\": 1, \"channels\": 65}");
    assert_refused(params_merge(&p, object, &err), &err, ERROR_PEER, "the source's parameters: channels=65");
    assert_int_equal(p.value[PARAM_CHANNELS], 3);
    assert_int_equal(p.value[PARAM_MAX_BANDWIDTH], 0);
    json_decref(object);
    assert_refused(params_merge(&p, NULL, &err), &err, ERROR_PEER, "must be an object");
}

static void the_help_names_every_parameter(void **state) {
    (void)state;
    struct params p;
    params_init(&p);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    params_help(out);
    fclose(out);
    json_t *all = params_json(&p, true), *value;
    const char *name;
    json_object_foreach(all, name, value) {
        assert_non_null(strstr(text, name));
    }
    assert_non_null(strstr(text, "(auto, none, lz4, zstd, deflate, qat; default auto; live)"));
    assert_non_null(strstr(text, "(0 or more bytes/s; default 0; live)"));
    assert_non_null(strstr(text, "(auto, 1..64; default auto)"));
    assert_non_null(strstr(text, "(0..2000000 ms; default 300ms; live)"));
    json_decref(all);
    free(text);
}

/* As `godwit set` and `godwit status --text` have it. */
static void what_people_are_shown(void **state) {
    (void)state;
    struct error err = { 0 };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    json_t *some = json("{\"max-bandwidth\": 125000000, \"downtime-limit\": 2000, \"autostart\": true, "
                        "\"compression\": \"lz4\", \"cpu-budget\": \"auto\"}");
    assert_ok(params_show(some, false, out, &err) == 0, &err);
    fclose(out);
    assert_non_null(strstr(text, "max-bandwidth              1gbit/s\n"));
    assert_non_null(strstr(text, "downtime-limit             2s\n"));
    assert_non_null(strstr(text, "autostart                  on\n"));
    assert_non_null(strstr(text, "compression                lz4\n"));
    assert_non_null(strstr(text, "cpu-budget                 auto\n"));
    assert_null(strstr(text, "link-timeout"));
    free(text);
    json_decref(some);
    json_t *wrong = json("{\"no-such\": 1}");
    assert_refused(params_show(wrong, false, stderr, &err), &err, ERROR_USAGE, "no parameter");
    json_decref(wrong);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(ranges),
        cmocka_unit_test(units),
        cmocka_unit_test(words),
        cmocka_unit_test(what_is_not_there),
        cmocka_unit_test(json_values),
        cmocka_unit_test(json_is_all_or_nothing),
        cmocka_unit_test(only_some_change_while_running),
        cmocka_unit_test(as_json),
        cmocka_unit_test(who_says_something_is_heard),
        cmocka_unit_test(the_stricter_limit_holds),
        cmocka_unit_test(each_side_decides_its_own),
        cmocka_unit_test(a_destination_makes_nothing_worse_for_the_guest),
        cmocka_unit_test(the_stop_limit_follows_the_downtime_limit),
        cmocka_unit_test(a_bad_source_changes_nothing),
        cmocka_unit_test(the_help_names_every_parameter),
        cmocka_unit_test(what_people_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
