/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include "base/clock.h"
#include "number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const shape_names[LOAD_SHAPES] = {
    [LOAD_IDLE] = "idle",   [LOAD_UNIFORM] = "uniform", [LOAD_ZIPF] = "zipf",
    [LOAD_SWEEP] = "sweep", [LOAD_BURST] = "burst",     [LOAD_GROW] = "grow",
};

static int parse_shape(struct load *load, const char *name, struct error *err) {
    for (int i = 0; i < LOAD_SHAPES; i++) {
        if (strcmp(shape_names[i], name) == 0) {
            load->shape = (enum load_shape)i;
            return 0;
        }
    }
    return error_set(err, ERROR_USAGE, "--load: no shape is called \"%s\"", name);
}

static int parse_seconds(const char *text, const char *what, uint64_t *ns, struct error *err) {
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0 && seconds < 1e6)) {
        return error_set(err, ERROR_USAGE, "--load %s wants seconds, not \"%s\"", what, text);
    }
    *ns = (uint64_t)(seconds * (double)CLOCK_S);
    return 0;
}

static int parse_key(struct load *load, const char *key, const char *value, struct error *err) {
    uint64_t same = 0;
    if (strcmp(key, "rate") == 0) {
        return number_bytes(value, "rate", &load->rate, err);
    }
    if (strcmp(key, "hot") == 0) {
        return number_bytes(value, "hot", &load->hot, err);
    }
    if (strcmp(key, "write") == 0) {
        if (number_count(value, "write", 8, STUNT_PAGE, &load->write, err) < 0) {
            return -1;
        }
        return load->write == 8 || load->write == STUNT_PAGE ? 0 : error_set(err, ERROR_USAGE, "write is 8 or 4096");
    }
    if (strcmp(key, "same") == 0) {
        int result = number_count(value, "same", 0, 1, &same, err);
        load->same = same != 0;
        return result;
    }
    if (strcmp(key, "on") == 0 || strcmp(key, "off") == 0) {
        return parse_seconds(value, key, key[1] == 'n' ? &load->on_ns : &load->off_ns, err);
    }
    if (strcmp(key, "skew") == 0) {
        return number_count(value, "skew", 1, 64, &load->skew, err);
    }
    if (strcmp(key, "threads") == 0) {
        return number_count(value, "threads", 1, 1024, &load->threads, err);
    }
    return error_set(err, ERROR_USAGE, "--load knows no \"%s\"", key);
}

int load_parse(struct load *load, const char *text, struct error *err) {
    char copy[512];
    if (strlen(text) >= sizeof(copy)) {
        return error_set(err, ERROR_USAGE, "--load is too long");
    }
    memcpy(copy, text, strlen(text) + 1);
    char *rest = NULL;
    char *word = strtok_r(copy, ",", &rest);
    if (parse_shape(load, word != NULL ? word : "", err) < 0) {
        return -1;
    }
    while ((word = strtok_r(NULL, ",", &rest)) != NULL) {
        char *value = strchr(word, '=');
        if (value == NULL) {
            return error_set(err, ERROR_USAGE, "--load: \"%s\" wants a value", word);
        }
        *value++ = '\0';
        if (parse_key(load, word, value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

void load_save(const struct load *load, struct blob *blob) {
    const uint64_t fields[] = { load->shape, load->rate,   load->hot,  load->write,   load->same,
                                load->on_ns, load->off_ns, load->skew, load->threads, load->seed };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        blob_put(blob, fields[i]);
    }
    for (int i = 0; i < CONTENT_COUNT; i++) {
        blob_put(blob, load->mix.percent[i]);
    }
}

int load_restore(struct load *load, struct blob *blob, struct error *err) {
    uint64_t shape = 0, same = 0;
    if (blob_get_range(blob, "shape", 0, LOAD_SHAPES - 1, &shape, err) < 0 || blob_get(blob, &load->rate, err) < 0 ||
        blob_get(blob, &load->hot, err) < 0 || blob_get_range(blob, "write", 8, STUNT_PAGE, &load->write, err) < 0 ||
        blob_get_range(blob, "same", 0, 1, &same, err) < 0 || blob_get(blob, &load->on_ns, err) < 0 ||
        blob_get(blob, &load->off_ns, err) < 0 || blob_get_range(blob, "skew", 1, 64, &load->skew, err) < 0 ||
        blob_get_range(blob, "threads", 1, 1024, &load->threads, err) < 0 || blob_get(blob, &load->seed, err) < 0) {
        return -1;
    }
    load->shape = (enum load_shape)shape;
    load->same = same != 0;
    for (int i = 0; i < CONTENT_COUNT; i++) {
        if (blob_get_range(blob, "mix", 0, 100, &load->mix.percent[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

void plan_begin(struct plan *plan, const struct load *load, unsigned thread) {
    *plan = (struct plan){ .random = number_mix(load->seed ^ (uint64_t)thread << 32) | 1 };
}

static uint64_t pick_uniform(struct plan *plan, uint64_t pages) {
    return (uint64_t)(((unsigned __int128)number_random(&plan->random) * pages) >> 64);
}

static uint64_t pick_zipf(struct plan *plan, uint64_t skew, uint64_t pages) {
    double u = (double)(number_random(&plan->random) >> 11) * 0x1p-53, product = u;
    for (uint64_t i = 1; i < skew; i++) {
        product *= u;
    }
    uint64_t page = (uint64_t)(product * (double)pages);
    return page < pages ? page : pages - 1;
}

bool plan_next(struct plan *plan, const struct load *load, uint64_t pages, uint64_t *page) {
    switch (load->shape) {
    case LOAD_UNIFORM:
    case LOAD_BURST:
        *page = pick_uniform(plan, pages);
        return true;
    case LOAD_ZIPF:
        *page = pick_zipf(plan, load->skew, pages);
        return true;
    case LOAD_SWEEP:
        *page = plan->cursor++ % pages;
        return true;
    case LOAD_GROW:
        *page = plan->cursor;
        plan->cursor += plan->cursor < pages;
        return *page < pages;
    case LOAD_IDLE:
    case LOAD_SHAPES:
        break;
    }
    return false;
}
