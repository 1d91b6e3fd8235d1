/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters: the input as NAME=VALUE of the command line, and as the JSON object of a client or of the other side. */
#include "fuzz.h"
#include "params/params.h"

#include <string.h>

static int same(const struct params *a, const struct params *b) {
    return memcmp(a->value, b->value, sizeof(a->value)) == 0 && memcmp(a->set, b->set, sizeof(a->set)) == 0;
}

/* What is printed can be read, and says the same. */
static void check(const struct params *p) {
    struct params again;
    struct error err = { 0 };
    params_init(&again);
    json_t *json = params_json(p, true);
    MUST(params_set_json(&again, json, false, &err) == 0);
    MUST(memcmp(again.value, p->value, sizeof(p->value)) == 0);
    json_decref(json);
}

static void outcome(int rc, const struct params *p, const struct params *before, const struct error *err) {
    MUST((rc == 0) == !error_is_set(err));
    if (rc == 0) {
        check(p);
        return;
    }
    MUST(same(p, before));
    json_t *desc = json_string(err->desc);
    MUST(desc != NULL);
    json_decref(desc);
}

static void as_text(const uint8_t *data, size_t size) {
    struct params p, before;
    struct error err = { 0 };
    char *text = text_of(data, size);
    params_init(&p);
    before = p;
    outcome(params_set(&p, text, &err), &p, &before, &err);
    free(text);
}

static void as_json(json_t *json) {
    for (int live = 0; live < 2; live++) {
        struct params p, before;
        struct error err = { 0 };
        params_init(&p);
        before = p;
        outcome(params_set_json(&p, json, live, &err), &p, &before, &err);
    }
    struct params p, before;
    struct error err = { 0 };
    params_init(&p);
    MUST(params_set(&p, "max-bandwidth=1M", &err) == 0 && params_set(&p, "downtime-limit=500", &err) == 0 &&
         params_set(&p, "autostart=off", &err) == 0);
    before = p;
    int rc = params_merge(&p, json, &err);
    outcome(rc, &p, &before, &err);
    MUST(p.value[PARAM_MAX_BANDWIDTH] > 0 && p.value[PARAM_MAX_BANDWIDTH] <= 1 << 20);
    MUST(p.value[PARAM_DOWNTIME_LIMIT] <= 500 && p.value[PARAM_AUTOSTART] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    as_text(data, size);
    json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    as_json(json); /* NULL too: a message without parameters */
    json_decref(json);
    return 0;
}
