/* SPDX-License-Identifier: Apache-2.0 */
#include "params/params.h"

#include "params/unit.h"
#include "policy/converge.h"

#include <stddef.h>
#include <string.h>

/* How two values that were both set become one. */
enum agreement {
    STRICTER,    /* the smaller one; 0 stands for no limit */
    GUEST_LIMIT, /* the same, and what the source has by default counts as said: a peer makes nothing worse for a guest
                  */
    SOURCE_SAYS, /* the destination's word counts when the source says nothing */
    SOURCE_ONLY, /* nobody else's business: what is done to the guest, and for how long it is tried */
    DESTINATION_SAYS,
    EACH_ITS_OWN, /* about the host that it was set on */
};

static const char *const on_off[] = { "off", "on", NULL };
static const char *const compressions[] = { "auto", "none", "lz4", "zstd", "deflate", "qat", NULL };
static const char *const bypasses[] = { "auto", "off", NULL };
/* In the order of the enums that take them. */
static const char *const policies[] = { "none", "stepped", "staged", "rate", NULL };
static const char *const actuators[] = { "auto", "ptrace", "cgroup", NULL };
static const char *const timeout_actions[] = { "abort", "force", NULL };
static const char *const wishes[] = { "auto", "save", "migrate", NULL };
static const char *const trackers[] = { "auto", "async", "sync", NULL };

struct param_row {
    const char *name;
    const char *const *words;    /* for enums: the value is the index */
    int64_t min, max, otherwise; /* `otherwise` PARAM_AUTO: the word "auto" is a value */
    enum agreement agreement;
    bool live;
    const char *help;
    size_t text; /* where the text is in struct params; 0: it is a number */
    enum unit unit;
};

#define AUTO PARAM_AUTO
#define STOP_MARGIN 2000 /* ms: what hangs for longer than this beyond downtime-limit is not waited for */

static const struct param_row table[PARAM_COUNT] = {
    [PARAM_DOWNTIME_LIMIT] = { "downtime-limit", NULL, 0, 2000000, 300, GUEST_LIMIT, true,
                               "how long the guest may stand still at the switchover", .unit = UNIT_MS },
    [PARAM_STOP_LIMIT] = { "stop-limit", NULL, 0, 2000000, AUTO, GUEST_LIMIT, true,
                           "past it a guest that stands still runs on at the source; auto: downtime-limit + 2 s; 0: "
                           "none",
                           .unit = UNIT_MS },
    [PARAM_MAX_BANDWIDTH] = { "max-bandwidth", NULL, 0, INT64_MAX, 0, STRICTER, true,
                              "what all channels together may carry; 0: no limit", .unit = UNIT_BYTES_PER_S },
    [PARAM_CHANNELS] = { "channels", NULL, 0, 64, 0, STRICTER, false,
                         "connections that carry RAM; 0: 4 or the number of CPUs, whichever is less" },
    [PARAM_PAGES_PER_BATCH] = { "pages-per-batch", NULL, 1, 1024, 128, STRICTER, false,
                                "pages of 4 KiB that are compressed and sent as one unit", .unit = UNIT_PAGES },
    [PARAM_COMPRESSION] = { "compression", compressions, 0, 5, 0, SOURCE_SAYS, true,
                            "auto chooses for each batch what is in place soonest" },
    [PARAM_LZ4_ACCELERATION] = { "lz4-acceleration", NULL, 1, 65537, 1, SOURCE_SAYS, true,
                                 "higher is faster and compresses less" },
    [PARAM_ZSTD_LEVEL] = { "zstd-level", NULL, -50, 19, 1, SOURCE_SAYS, true,
                           "for compression=zstd; higher is slower and compresses more" },
    [PARAM_DEFLATE_LEVEL] = { "deflate-level", NULL, 0, 3, 1, SOURCE_SAYS, true,
                              "for compression=deflate, and for accelerators" },
    [PARAM_COMPRESS_THREADS] = { "compress-threads", NULL, 1, 64, AUTO, SOURCE_ONLY, false,
                                 "threads that gather and compress; auto follows the host's load" },
    [PARAM_DECOMPRESS_THREADS] = { "decompress-threads", NULL, 1, 64, AUTO, DESTINATION_SAYS, false,
                                   "threads that decompress and place; auto follows the number of CPUs" },
    [PARAM_BYPASS_COMPRESSION] = { "bypass-compression", bypasses, 0, 1, 0, SOURCE_SAYS, true,
                                   "auto sends batches that look incompressible as they are; off tries each" },
    [PARAM_XBZRLE_CACHE_SIZE] = { "xbzrle-cache-size", NULL, 0, INT64_MAX, AUTO, SOURCE_ONLY, true,
                                  "memory for last sent versions of pages, to send changes only; 0: none",
                                  .unit = UNIT_BYTES },
    [PARAM_PAGE_DIGESTS] = { "page-digests", on_off, 0, 1, 1, SOURCE_ONLY, false,
                             "on sends no page again that was written with the same content" },
    [PARAM_ZERO_PAGE_DETECTION] = { "zero-page-detection", on_off, 0, 1, 1, SOURCE_ONLY, true,
                                    "on sends pages full of zeros as a word" },
    [PARAM_ACCEL_DEVICES] = { "accel-devices", NULL, 0, 0, 0, EACH_ITS_OWN, false,
                              "accelerators, separated by commas: qat, emulated:PATH; or none",
                              offsetof(struct params, accel_devices) },
    [PARAM_ACCEL_INSTANCES] = { "accel-instances", NULL, 1, 64, AUTO, EACH_ITS_OWN, false,
                                "queues on each accelerator" },
    [PARAM_CPU_BUDGET] = { "cpu-budget", NULL, 1, 100000, AUTO, EACH_ITS_OWN, true,
                           "share of one CPU that the engine may use; auto: what the host has idle",
                           .unit = UNIT_PERCENT },
    [PARAM_CPU_AFFINITY] = { "cpu-affinity", NULL, 0, 0, 0, EACH_ITS_OWN, false, "CPUs of the engine, as in 0-3,8",
                             offsetof(struct params, cpu_affinity) },
    [PARAM_MEMORY_BUDGET] = { "memory-budget", NULL, 0, INT64_MAX, AUTO, EACH_ITS_OWN, true,
                              "memory for digests and last sent versions; auto follows the host's free memory",
                              .unit = UNIT_BYTES },
    [PARAM_THROTTLE_POLICY] = { "throttle-policy", policies, 0, 3, CONVERGE_RATE, SOURCE_ONLY, true,
                                "how a guest that writes faster than the link carries is held back" },
    [PARAM_THROTTLE_ACTUATOR] = { "throttle-actuator", actuators, 0, 2, 0, SOURCE_ONLY, false,
                                  "what holds its vCPUs: stops of their threads, or the quota of their cgroups" },
    [PARAM_THROTTLE_TRIGGER_THRESHOLD] = { "throttle-trigger-threshold", NULL, 1, 100, 50, SOURCE_ONLY, true,
                                           "stepped: share of what a pass sent, written in it, that is too much",
                                           .unit = UNIT_PERCENT },
    [PARAM_CPU_THROTTLE_INITIAL] = { "cpu-throttle-initial", NULL, 1, 99, 20, SOURCE_ONLY, true,
                                     "stepped: share of their time that vCPUs are held at first",
                                     .unit = UNIT_PERCENT },
    [PARAM_CPU_THROTTLE_INCREMENT] = { "cpu-throttle-increment", NULL, 1, 99, 10, SOURCE_ONLY, true,
                                       "stepped: what each step adds", .unit = UNIT_PERCENT },
    [PARAM_MAX_CPU_THROTTLE] = { "max-cpu-throttle", NULL, 1, 99, 99, GUEST_LIMIT, true,
                                 "share of their time that no policy goes over", .unit = UNIT_PERCENT },
    [PARAM_COMPLETION_TIMEOUT] = { "completion-timeout", NULL, 0, 31536000, 0, SOURCE_ONLY, true,
                                   "time until timeout-action; 0: none", .unit = UNIT_S },
    [PARAM_PROGRESS_TIMEOUT] = { "progress-timeout", NULL, 0, 31536000, 60, SOURCE_ONLY, true,
                                 "time without less to send until timeout-action; 0: none", .unit = UNIT_S },
    [PARAM_TIMEOUT_ACTION] = { "timeout-action", timeout_actions, 0, 1, 0, SOURCE_ONLY, true,
                               "abort: the guest stays; force: it is switched over, however long that takes" },
    [PARAM_RAM_DELAY_SAVE_PERCENT] = { "ram-delay-save-percent", NULL, 0, 100, 0, SOURCE_ONLY, true,
                                       "share of RAM, the hottest, that may wait while passes send the rest; 0: none",
                                       .unit = UNIT_PERCENT },
    [PARAM_RAM_SEGMENT_SIZE] = { "ram-segment-size", NULL, 0, 1 << 30, 2 << 20, SOURCE_ONLY, false,
                                 "memory of which heat is known together, in steps of 2 MiB; 0: nothing waits",
                                 .unit = UNIT_BYTES },
    [PARAM_TRACKER] = { "tracker", trackers, 0, 2, 0, SOURCE_ONLY, false,
                        "how writes of the guest are seen; auto: the best that the kernel has" },
    [PARAM_DEVICE_STATE] = { "device-state", wishes, 0, 2, 0, SOURCE_ONLY, false,
                             "how it leaves the VMM: by the VMM's own migration, or saved without RAM; auto: migrate "
                             "where that leaves the guest's RAM out" },
    [PARAM_LINK_TIMEOUT] = { "link-timeout", NULL, 2, 3600, 10, STRICTER, false,
                             "silence after which the connection counts as broken", .unit = UNIT_S },
    [PARAM_CHECK_DISKS] = { "check-disks", on_off, 0, 1, 1, SOURCE_SAYS, false,
                            "off: disks may look different at the destination; that they are the same is your word" },
    [PARAM_AUTOSTART] = { "autostart", on_off, 0, 1, 1, DESTINATION_SAYS, false,
                          "off leaves the guest paused at the destination" },
    [PARAM_SOURCE_QUIT] = { "source-quit", on_off, 0, 1, 0, SOURCE_ONLY, true,
                            "on ends the source QEMU after completion" },
};

static char *text_of(struct params *p, const struct param_row *row) {
    return (char *)p + row->text;
}

static const char *text_in(const struct params *p, const struct param_row *row) {
    return (const char *)p + row->text;
}

void params_init(struct params *p) {
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        p->value[i] = table[i].otherwise;
        p->set[i] = false;
        if (table[i].text != 0) {
            snprintf(text_of(p, &table[i]), PARAM_TEXT_SIZE, "auto");
        }
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

/* "auto, none, lz4" or "0..2000000 ms". */
static const char *range_text(const struct param_row *row, char *text, size_t size) {
    const char *automatic = row->otherwise == AUTO ? "auto, " : "";
    if (row->text != 0) {
        snprintf(text, size, "auto, or a list of up to %d characters", PARAM_TEXT_SIZE - 1);
        return text;
    }
    if (row->words == NULL) {
        const char *unit = unit_name(row->unit), *gap = *unit != '\0' ? " " : "";
        if (row->max == INT64_MAX) {
            snprintf(text, size, "%s%lld or more%s%s", automatic, (long long)row->min, gap, unit);
        } else {
            snprintf(text, size, "%s%lld..%lld%s%s", automatic, (long long)row->min, (long long)row->max, gap, unit);
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

/* `whole`: a fraction of the unit was asked for. */
static int refuse_value(const struct param_row *row, const char *value, bool whole, struct error *err) {
    char range[256];
    const char *examples = row->words == NULL && row->text == 0 ? unit_examples(row->unit) : "";
    return error_set(err, ERROR_USAGE, "%s=%.64s: the value must be %s%s%s%s", row->name, value,
                     range_text(row, range, sizeof(range)), whole ? ", and whole" : "",
                     *examples != '\0' ? "; for example " : "", examples);
}

static int out_of_range(const struct param_row *row, const char *value, struct error *err) {
    return refuse_value(row, value, false, err);
}

static int parse_value(const struct param_row *row, const char *text, int64_t *value, struct error *err) {
    if (row->text != 0) {
        *value = 0;
        return strlen(text) < PARAM_TEXT_SIZE ? 0 : out_of_range(row, "(a longer text)", err);
    }
    if (row->otherwise == AUTO && strcmp(text, "auto") == 0) {
        *value = AUTO;
        return 0;
    }
    if (row->words != NULL) {
        for (int64_t i = 0; row->words[i] != NULL; i++) {
            if (strcmp(row->words[i], text) == 0) {
                *value = i;
                return 0;
            }
        }
        return out_of_range(row, text, err);
    }
    enum unit_outcome outcome = unit_parse(row->unit, text, value);
    if (outcome != UNIT_READ || *value < row->min || *value > row->max) {
        return refuse_value(row, text, outcome == UNIT_NOT_WHOLE, err);
    }
    return 0;
}

static void set_value(struct params *p, size_t i, int64_t value, const char *text) {
    p->value[i] = value;
    p->set[i] = true;
    if (table[i].text != 0) {
        snprintf(text_of(p, &table[i]), PARAM_TEXT_SIZE, "%s", text != NULL ? text : "");
    }
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
    set_value(p, i, value, eq + 1);
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
    if (!json_is_integer(json) || row->words != NULL || row->text != 0) {
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
        int64_t value = 0;
        if (parse_json_value(row, json, &value, err) < 0) {
            return -1;
        }
        set_value(&next, (size_t)(row - table), value, json_string_value(json));
    }
    *p = next;
    return 0;
}

static bool is_auto(const struct params *p, size_t i) {
    return table[i].otherwise == AUTO && p->value[i] == AUTO;
}

static json_t *value_json(const struct params *p, size_t i) {
    const struct param_row *row = &table[i];
    if (row->text != 0) {
        return json_string(text_in(p, row));
    }
    if (is_auto(p, i)) {
        return json_string("auto");
    }
    return row->words == on_off ? json_boolean(p->value[i])
           : row->words         ? json_string(row->words[p->value[i]])
                                : json_integer(p->value[i]);
}

json_t *params_json(const struct params *p, bool all) {
    json_t *object = json_object();
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!all && !p->set[i]) {
            continue;
        }
        const struct param_row *row = &table[i];
        json_object_set_new(object, row->name, value_json(p, i));
    }
    return object;
}

static int64_t stricter(int64_t a, int64_t b) {
    if (a == 0 || b == 0) {
        return a + b; /* 0 is no limit, so the other one holds */
    }
    return a < b ? a : b;
}

static bool is_limit(size_t i) {
    return table[i].agreement == STRICTER || table[i].agreement == GUEST_LIMIT;
}

/* What auto comes to with the downtime-limit of `p`. */
static int64_t stop_limit_ms(const struct params *p, int64_t value) {
    return value == AUTO ? p->value[PARAM_DOWNTIME_LIMIT] + STOP_MARGIN : value;
}

/* The stricter of two values of parameter `i`; `p` has the parameters that auto goes by. */
static int64_t stricter_of(const struct params *p, size_t i, int64_t a, int64_t b) {
    if (i == PARAM_STOP_LIMIT && (a == AUTO || b == AUTO)) {
        int64_t other = a == AUTO ? b : a;
        return stricter(stop_limit_ms(p, AUTO), stop_limit_ms(p, other)) == stop_limit_ms(p, AUTO) ? AUTO : other;
    }
    /* A downtime-limit of 0 is a limit, the strictest. */
    if (i == PARAM_DOWNTIME_LIMIT && (a == 0 || b == 0)) {
        return 0;
    }
    return stricter(a, b);
}

int params_from_peer(struct params *p, json_t *object, const char *what, struct error *err) {
    params_init(p);
    if (params_set_json(p, object, false, err) < 0) {
        err->class = ERROR_PEER; /* not our user's fault, which would be another exit status */
        return error_prefix(err, "%s: ", what);
    }
    return 0;
}

int params_merge(struct params *p, json_t *source, struct error *err) {
    struct params theirs;
    if (params_from_peer(&theirs, source, "the source's parameters", err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!theirs.set[i] || table[i].agreement == EACH_ITS_OWN) {
            continue;
        }
        if (!p->set[i] || table[i].agreement == SOURCE_SAYS || table[i].agreement == SOURCE_ONLY) {
            set_value(p, i, theirs.value[i], table[i].text != 0 ? text_in(&theirs, &table[i]) : NULL);
        } else if (is_limit(i)) {
            p->value[i] = stricter_of(p, i, p->value[i], theirs.value[i]);
        }
        p->set[i] = true;
    }
    return 0;
}

int params_adopt(struct params *p, json_t *agreed, struct error *err) {
    struct params theirs;
    if (params_from_peer(&theirs, agreed, "the destination's parameters", err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (!theirs.set[i] || table[i].agreement == SOURCE_ONLY || table[i].agreement == EACH_ITS_OWN ||
            (table[i].agreement == SOURCE_SAYS && p->set[i])) {
            continue;
        }
        bool said = p->set[i] || table[i].agreement == GUEST_LIMIT;
        p->value[i] = is_limit(i) && said ? stricter_of(p, i, p->value[i], theirs.value[i]) : theirs.value[i];
    }
    return 0;
}

void params_limit(struct params *p, const struct params *ceiling) {
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (ceiling->set[i] && is_limit(i)) {
            p->value[i] = stricter_of(p, i, p->value[i], ceiling->value[i]);
        }
    }
}

/* The value as one would type it. */
static const char *value_text(const struct params *p, size_t i, char number[UNIT_TEXT_SIZE]) {
    const struct param_row *row = &table[i];
    if (row->text != 0) {
        return text_in(p, row);
    }
    if (is_auto(p, i)) {
        return "auto";
    }
    return row->words != NULL ? row->words[p->value[i]] : unit_format(row->unit, p->value[i], number);
}

int params_show(json_t *values, bool all, FILE *out, struct error *err) {
    struct params p;
    char number[UNIT_TEXT_SIZE];
    params_init(&p);
    if (params_set_json(&p, values, false, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (all || p.set[i]) {
            fprintf(out, "  %-26s %s\n", table[i].name, value_text(&p, i, number));
        }
    }
    return 0;
}

int64_t params_stop_limit(const struct params *p) {
    int64_t ms = stop_limit_ms(p, p->value[PARAM_STOP_LIMIT]);
    return ms == 0 ? INT64_MAX : ms * 1000000;
}

void params_help(FILE *out) {
    char range[256], number[UNIT_TEXT_SIZE];
    struct params defaults;
    params_init(&defaults);
    fputs("Numbers may have a unit: ms, s, min, h; bytes as 64K, 128M, 1G (powers of 1024) or 500MB (of 1000); rates "
          "also\n"
          "as 100mbit or 1gbit; percent as 30%. A bare number is in the unit that is named behind the range.\n"
          "\n"
          "Parameters:\n",
          out);
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        const struct param_row *row = &table[i];
        fprintf(out, "  %-26s %s (%s; default %s%s)\n", row->name, row->help, range_text(row, range, sizeof(range)),
                value_text(&defaults, i, number), row->live ? "; live" : "");
    }
}
