/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How two values that were both set become one. */
enum agreement {
    STRICTER,    /* the smaller one; 0 stands for no limit */
    SOURCE_SAYS, /* the destination's word counts when the source says nothing */
    SOURCE_ONLY, /* nobody else's business */
    DESTINATION_SAYS,
};

static const char *const on_off[] = { "off", "on", NULL };
static const char *const compressions[] = { "auto", "none", "lz4", NULL };
static const char *const trackers[] = { "auto", "async", "sync", NULL };

struct param_row {
    const char *name;
    const char *const *words; /* for enums: the value is the index */
    int64_t min, max, otherwise;
    enum agreement agreement;
    bool live;
    const char *help;
};

static const struct param_row table[PARAM_COUNT] = {
    [PARAM_DOWNTIME_LIMIT] = { "downtime-limit", NULL, 0, 2000000, 300, STRICTER, true,
                               "ms that the guest may stand still at the switchover" },
    [PARAM_MAX_BANDWIDTH] = { "max-bandwidth", NULL, 0, INT64_MAX, 0, STRICTER, true,
                              "bytes/s over all channels (K, M, G: powers of 1024); 0: no limit" },
    [PARAM_CHANNELS] = { "channels", NULL, 0, 64, 0, STRICTER, false,
                         "connections that carry RAM; 0: 4 or the number of CPUs, whichever is less" },
    [PARAM_PAGES_PER_BATCH] = { "pages-per-batch", NULL, 1, 1024, 128, STRICTER, false,
                                "pages of 4 KiB that are compressed and sent as one unit" },
    [PARAM_COMPRESSION] = { "compression", compressions, 0, 2, 0, SOURCE_SAYS, true,
                            "auto chooses for each batch what is in place soonest" },
    [PARAM_LZ4_ACCELERATION] = { "lz4-acceleration", NULL, 1, 65537, 1, SOURCE_SAYS, true,
                                 "higher is faster and compresses less" },
    [PARAM_TRACKER] = { "tracker", trackers, 0, 2, 0, SOURCE_ONLY, false,
                        "how writes of the guest are seen; auto: the best that the kernel has" },
    [PARAM_LINK_TIMEOUT] = { "link-timeout", NULL, 2, 3600, 10, STRICTER, false,
                             "s of silence after which the connection counts as broken" },
    [PARAM_AUTOSTART] = { "autostart", on_off, 0, 1, 1, DESTINATION_SAYS, false,
                          "off leaves the guest paused at the destination" },
    [PARAM_SOURCE_QUIT] = { "source-quit", on_off, 0, 1, 0, SOURCE_ONLY, true,
                            "on ends the source QEMU after completion" },
};

void params_init(struct params *p) {
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        p->value[i] = table[i].otherwise;
        p->set[i] = false;
    }
}

static const struct param_row *find(const char *name, size_t length) {
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* "auto, none, lz4" or "0..2000000". */
static const char *range_text(const struct param_row *row, char *text, size_t size) {
    if (row->words == NULL) {
        if (row->max == INT64_MAX) {
            snprintf(text, size, "%lld or more", (long long)row->min);
        } else {
            snprintf(text, size, "%lld..%lld", (long long)row->min, (long long)row->max);
        }
        return text;
    }
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; row->words[i] != NULL && at < size; i++) {
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? ", " : "", row->words[i]);
    }
    return text;
}

static int out_of_range(const struct param_row *row, const char *value, struct error *err) {
    char range[256];
    return error_set(err, ERROR_USAGE, "%s=%s: the value must be %s", row->name, value,
                     range_text(row, range, sizeof(range)));
}

/* Digits with an optional K, M or G. */
static bool parse_number(const char *text, int64_t *value) {
    char *end;
    if (*text < '0' || *text > '9') { /* strtoll would take blanks and a sign */
        return false;
    }
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (shift != 0) {
        end++;
    }
    if (*end != '\0' || n > INT64_MAX >> shift) {
        return false;
    }
    *value = (int64_t)n << shift;
    return true;
}

static int parse_value(const struct param_row *row, const char *text, int64_t *value, struct error *err) {
    if (row->words != NULL) {
        for (int64_t i = 0; row->words[i] != NULL; i++) {
            if (strcmp(row->words[i], text) == 0) {
                *value = i;
                return 0;
            }
        }
        return out_of_range(row, text, err);
    }
    if (!parse_number(text, value) || *value < row->min || *value > row->max) {
        return out_of_range(row, text, err);
    }
    return 0;
}

int params_set(struct params *p, const char *assignment, struct error *err) {
    const char *eq = strchr(assignment, '=');
    if (eq == NULL) {
        return error_set(err, ERROR_USAGE, "--set %s: write NAME=VALUE", assignment);
    }
    const struct param_row *row = find(assignment, (size_t)(eq - assignment));
    if (row == NULL) {
        return error_set(err, ERROR_USAGE, "there is no parameter '%.*s' (--help lists them)", (int)(eq - assignment),
                         assignment);
    }
    size_t i = (size_t)(row - table);
    int64_t value = 0;
    if (parse_value(row, eq + 1, &value, err) < 0) {
        return -1;
    }
    p->value[i] = value;
    p->set[i] = true;
    return 0;
}

static int parse_json_value(const struct param_row *row, json_t *json, int64_t *value, struct error *err) {
    if (json_is_string(json)) {
        return parse_value(row, json_string_value(json), value, err);
    }
    if (json_is_boolean(json) && row->words == on_off) {
        *value = json_is_true(json);
        return 0;
    }
    if (!json_is_integer(json) || row->words != NULL) {
        return out_of_range(row, "(another type)", err);
    }
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(json));
    return parse_value(row, text, value, err);
}

int params_set_json(struct params *p, json_t *object, bool live, struct error *err) {
    struct params next = *p;
    const char *name;
    json_t *json;
    if (!json_is_object(object)) {
        return error_set(err, ERROR_USAGE, "parameters must be an object");
    }
    json_object_foreach(object, name, json) {
        const struct param_row *row = find(name, strlen(name));
        if (row == NULL) {
            return error_set(err, ERROR_USAGE, "there is no parameter '%.64s'", name);
        }
        if (live && !row->live) {
            return error_set(err, ERROR_USAGE, "%s cannot be changed while the migration runs", name);
        }
        if (parse_json_value(row, json, &next.value[row - table], err) < 0) {
            return -1;
        }
        next.set[row - table] = true;
    }
    *p = next;
    return 0;
}

json_t *params_json(const struct params *p, bool all) {
    json_t *object = json_object();
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!all && !p->set[i]) {
            continue;
        }
        const struct param_row *row = &table[i];
        json_t *value = row->words == on_off ? json_boolean(p->value[i])
                        : row->words         ? json_string(row->words[p->value[i]])
                                             : json_integer(p->value[i]);
        json_object_set_new(object, row->name, value);
    }
    return object;
}

static int64_t stricter(int64_t a, int64_t b) {
    if (a == 0 || b == 0) {
        return a + b; /* 0 is no limit, so the other one holds */
    }
    return a < b ? a : b;
}

/* The stricter of two values of parameter `i`. */
static int64_t stricter_of(size_t i, int64_t a, int64_t b) {
    /* A downtime-limit of 0 is a limit, the strictest. */
    if (i == PARAM_DOWNTIME_LIMIT && (a == 0 || b == 0)) {
        return 0;
    }
    return stricter(a, b);
}

int params_merge(struct params *p, json_t *source, struct error *err) {
    struct params theirs;
    params_init(&theirs);
    if (params_set_json(&theirs, source, false, err) < 0) {
        return error_prefix(err, "the source's parameters: ");
    }
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!theirs.set[i]) {
            continue;
        }
        if (!p->set[i] || table[i].agreement == SOURCE_SAYS || table[i].agreement == SOURCE_ONLY) {
            p->value[i] = theirs.value[i];
        } else if (table[i].agreement == STRICTER) {
            p->value[i] = stricter_of(i, p->value[i], theirs.value[i]);
        }
        p->set[i] = true;
    }
    return 0;
}

int params_adopt(struct params *p, json_t *agreed, struct error *err) {
    struct params theirs;
    params_init(&theirs);
    if (params_set_json(&theirs, agreed, false, err) < 0) {
        return error_prefix(err, "the destination's parameters: ");
    }
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!theirs.set[i] || table[i].agreement == SOURCE_ONLY || (table[i].agreement == SOURCE_SAYS && p->set[i])) {
            continue;
        }
        bool limited = table[i].agreement == STRICTER && p->set[i];
        p->value[i] = limited ? stricter_of(i, p->value[i], theirs.value[i]) : theirs.value[i];
    }
    return 0;
}

void params_limit(struct params *p, const struct params *ceiling) {
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (ceiling->set[i] && table[i].agreement == STRICTER) {
            p->value[i] = stricter_of(i, p->value[i], ceiling->value[i]);
        }
    }
}

void params_help(FILE *out) {
    char range[256];
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        const struct param_row *row = &table[i];
        fprintf(out, "  %-17s %s (%s", row->name, row->help, range_text(row, range, sizeof(range)));
        if (row->words != NULL) {
            fprintf(out, "; default %s%s)\n", row->words[row->otherwise], row->live ? "; live" : "");
        } else {
            fprintf(out, "; default %lld%s)\n", (long long)row->otherwise, row->live ? "; live" : "");
        }
    }
}
