/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/predict_report.h"

#include "base/clock.h"
#include "codec/codec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MIB (1024.0 * 1024)

static bool is_set(const struct predict_report *r) {
    return r->params->set[PARAM_THROTTLE_POLICY];
}

/* The policy that the exit status and the last line are about; -1: none ends. */
static int chosen(const struct predict_report *r) {
    return is_set(r) ? (int)r->params->value[PARAM_THROTTLE_POLICY] : r->outlook->recommended;
}

bool predict_ends(const struct predict_report *r) {
    int policy = chosen(r);
    return policy >= 0 && r->outlook->policies[policy].ends == OUTLOOK_YES;
}

static const char *ends_name(enum outlook_ends ends) {
    static const char *const names[] = { "no", "perhaps", "yes" };
    return names[ends];
}

static struct outlook_range times(struct outlook_range range, double factor) {
    return (struct outlook_range){ range.least * factor, range.likely * factor, range.most * factor };
}

/* What memory as a whole is compressed with on this link, and how far; false when there is nothing to compress. */
static bool find_codec(const struct predict_report *r, struct rung *use, double *ratio) {
    const struct watch *w = r->watch;
    struct content_means means = { .gather_ns = w->gather_ns,
                                   .cpus = w->plan.cpu_share,
                                   .budget = w->budget,
                                   .stretch = w->all.stretch,
                                   .threads = w->plan.compress_threads,
                                   .channels = PREDICT_CHANNELS,
                                   .wire_rate = r->question->wire_rate };
    content_cost(&w->all, &means, use, ratio);
    return w->all.count > 0;
}

/* ---- text ---- */

static void print_guest(const struct predict_report *r) {
    const struct watch *w = r->watch;
    struct rung use;
    double ratio, share = 100.0 / w->trace.pages;
    printf("guest  %.0f MiB, %.0f %% of it empty or zero; writes %.0f MB/s, watched for %.1f s\n", (double)w->ram / MIB,
           (double)(w->holes + w->zeros) * share, w->dirty_rate / 1e6, (double)w->trace.length / 1e9);
    printf("link   %.0f Mbit/s of payload, %s\n", r->question->wire_rate * 8 / 1e6,
           r->measured ? "measured" : "as was said");
    if (find_codec(r, &use, &ratio)) {
        printf("bytes  %.0f %% remain with %s", 100 * ratio, codec_name(use.codec));
        printf(use.codec == CODEC_NONE ? "\n" : " at level %d\n", use.level);
    }
}

static void print_range(struct outlook_range range, int digits) {
    char text[48];
    snprintf(text, sizeof(text), "%.*f (%.*f..%.*f)", digits, range.likely, digits, range.least, digits, range.most);
    printf(" %22s", text);
}

static void print_policy(const struct outlook_policy *p, const char *name) {
    printf("%-8s %-8s", name, p->forced && p->ends != OUTLOOK_NO ? "forced" : ends_name(p->ends));
    if (p->ends == OUTLOOK_NO) {
        printf(" %s after %.0f s; %.0f MiB remain\n", p->reason, p->total.likely, p->remaining.likely / MIB);
        return;
    }
    print_range(p->total, 1);
    print_range(times(p->downtime, 1e3), 0);
    print_range(times(p->wire, 1 / MIB), 0);
    print_range(p->lost, 1);
    printf(" %4u %%\n", p->throttle);
}

static void print_cure(const struct predict_report *r) {
    const struct outlook *o = r->outlook;
    const char *helped = converge_policy_name(o->helped);
    if (o->downtime_limit > 0) {
        printf("It would end with throttle-policy=%s and downtime-limit=%lld\n", helped,
               (long long)(o->downtime_limit / CLOCK_MS));
    }
    if (o->link > 0) {
        printf("It would end with throttle-policy=%s over a link of %.0f Mbit/s\n", helped, o->link * 8 / 1e6);
    }
    if (o->downtime_limit == 0 && o->link == 0) {
        puts("Neither a downtime-limit of a minute nor a link 64 times as fast would help");
    }
}

static void print_advice(const struct predict_report *r) {
    int policy = r->outlook->recommended;
    if (policy < 0) {
        printf("A migration would not surely end under any policy, by what was seen of the guest\n");
        print_cure(r);
    } else {
        printf("Recommended: throttle-policy=%s\n", converge_policy_name((enum converge_policy)policy));
    }
    if (is_set(r) && !predict_ends(r) && policy >= 0) {
        printf("throttle-policy=%s, which was set, would not surely end\n",
               converge_policy_name((enum converge_policy)chosen(r)));
    }
}

static int flush(struct error *err) {
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot write the result");
}

int predict_print_text(const struct predict_report *r, struct error *err) {
    print_guest(r);
    printf("\n%-8s %-8s %22s %22s %22s %22s %6s\n", "policy", "ends", "total s", "pause ms", "sent MiB", "work lost s",
           "held");
    for (int i = 0; i < OUTLOOK_POLICIES; i++) {
        print_policy(&r->outlook->policies[i], converge_policy_name((enum converge_policy)i));
    }
    puts("");
    print_advice(r);
    return flush(err);
}

/* ---- JSON ---- */

static json_t *range_json(struct outlook_range range) {
    return json_pack("{s:f, s:f, s:f}", "least", range.least, "likely", range.likely, "most", range.most);
}

static json_t *policy_json(const struct outlook_policy *p) {
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:i, s:s}", "ends", ends_name(p->ends), "forced", p->forced,
                     "total-time", range_json(times(p->total, 1e3)), "downtime", range_json(times(p->downtime, 1e3)),
                     "transferred", range_json(p->wire), "work-lost", range_json(times(p->lost, 1e3)), "remaining",
                     range_json(p->remaining), "max-percent", (int)p->throttle, "reason", p->reason);
}

static json_t *guest_json(const struct watch *w) {
    double part = (double)w->ram / w->trace.pages;
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "ram", (json_int_t)w->ram, "holes",
                     (double)w->holes * part, "zero", (double)w->zeros * part, "dirty-rate", w->dirty_rate, "unchanged",
                     w->unchanged, "changes", w->changes, "change-bytes", w->change_bytes, "watched",
                     (double)w->trace.length / 1e6);
}

static json_t *codec_json(const struct predict_report *r) {
    struct rung use;
    double ratio;
    return !find_codec(r, &use, &ratio)
               ? json_null()
               : json_pack("{s:s, s:i, s:f, s:f, s:f}", "codec", codec_name(use.codec), "level", use.level, "ratio",
                           ratio, "cpus", r->watch->plan.cpu_share, "stretch", r->watch->all.stretch);
}

static json_t *cure_json(const struct outlook *o) {
    if (o->recommended >= 0) {
        return json_null();
    }
    return json_pack("{s:s, s:o, s:o}", "throttle-policy", converge_policy_name(o->helped), "downtime-limit",
                     o->downtime_limit > 0 ? json_integer(o->downtime_limit / CLOCK_MS) : json_null(), "link",
                     o->link > 0 ? json_real(o->link * 8) : json_null());
}

int predict_print_json(const struct predict_report *r, struct error *err) {
    const struct outlook *o = r->outlook;
    json_t *policies = json_object();
    for (int i = 0; i < OUTLOOK_POLICIES; i++) {
        json_object_set_new(policies, converge_policy_name((enum converge_policy)i), policy_json(&o->policies[i]));
    }
    json_t *best =
        o->recommended >= 0 ? json_string(converge_policy_name((enum converge_policy)o->recommended)) : json_null();
    json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:{s:f, s:b}, s:o, s:o}", "status",
                             predict_ends(r) ? "ends" : "will-not-end", "recommended", best, "policies", policies,
                             "guest", guest_json(r->watch), "link", "rate", r->question->wire_rate * 8, "measured",
                             (int)r->measured, "compression", codec_json(r), "cure", cure_json(o));
    int rc = root != NULL && json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8)) == 0
                 ? 0
                 : error_set(err, ERROR_SYSTEM, "cannot write the result");
    putchar('\n');
    json_decref(root);
    return rc < 0 ? -1 : flush(err);
}
