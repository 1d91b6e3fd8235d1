/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   attach, one scan that reports everything   what follows is what the guest writes
 *   copy some pages
 *   scan, scan, …                              one bitmap each
 *   detach                                     the guest pays for nothing any more
 *   compare the copies; read the sample; try codecs
 */
#include "predict/watch.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/zero.h"
#include "codec/delta.h"
#include "host/load.h"
#include "params/plan_params.h"
#include "policy/cadence.h"
#include "policy/forecast.h"
#include "predict/xorshift.h"
#include "ram/batch.h"
#include "ram/block.h"
#include "ram/digest.h"
#include "view/view.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHORT_INTERVAL (10 * CLOCK_MS)
/* Of so many intervals so many are looked at closely. */
#define CYCLE 10
#define CLOSE 2
#define SCANS_A_SECOND                                                                                                 \
    ((CYCLE - CLOSE + CLOSE * SAMPLE_INTERVAL / SHORT_INTERVAL) * CLOCK_S / (CYCLE * SAMPLE_INTERVAL))
#define TRACE_BYTES (64ll << 20) /* of bitmaps; who watches for long looks at fewer pages */
#define ANSWERS 5
#define COPIES 8192u
#define READ_PAGES 128u /* that are read at one place for the codecs */
#define READ_PLACES 96u
#define MOST_DIRTY 4096u /* pages that the codecs try of those that the guest writes */

struct watching {
    const struct watch_config *config;
    struct watch *w;
    struct ram ram;
    uint64_t total;  /* pages of the guest */
    uint64_t *pages; /* the sample: numbers in the whole guest, ascending; w->trace.pages of them */
    struct view view;
    struct digest_key key;
    uint64_t *before; /* of each block: pages of the blocks before it */
    uint64_t *ever;   /* bitmap: written since the copies were made */
    uint64_t dirty_pages;
    struct copies {
        uint32_t step; /* the sample's pages of which there is a copy: each step-th */
        uint32_t count;
        uint8_t *bytes;
    } copies;
    struct host_meter *meter;
};

/* One page at a random place of each of as many equal parts. */
static int draw_sample(struct watching *s, struct error *err) {
    int64_t fit = TRACE_BYTES * 8 / (SCANS_A_SECOND * (s->config->time / CLOCK_S + 1));
    uint32_t most = fit < TRACE_MOST_PAGES ? (uint32_t)fit : TRACE_MOST_PAGES;
    uint32_t n = s->total < most ? (uint32_t)s->total : most;
    double scale = (double)s->total / n;
    trace_init(&s->w->trace, n, scale);
    s->pages = calloc(n, sizeof(*s->pages));
    s->w->kinds = calloc(n, 1);
    s->ever = calloc(bits_words(n), sizeof(*s->ever));
    if (s->pages == NULL || s->w->kinds == NULL || s->ever == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to watch the guest");
    }
    uint64_t state = UINT64_C(88172645463325252);
    for (uint32_t i = 0; i < n; i++) {
        double part = (double)(xorshift(&state) >> 11) / 0x1p53;
        uint64_t page = (uint64_t)(((double)i + part) * scale);
        s->pages[i] = n == s->total ? i : page < s->total ? page : s->total - 1;
    }
    return 0;
}

static int open_ram(struct watching *s, struct error *err) {
    if (view_open(&s->view, s->config->vmm, &s->ram, err) < 0 || digest_key_make(&s->key, err) < 0 ||
        ram_digests_open(&s->ram, 0, err) < 0) {
        return -1;
    }
    s->before = calloc(s->ram.count, sizeof(*s->before));
    if (s->before == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to watch the guest");
    }
    for (uint16_t i = 0; i < s->ram.count; i++) {
        s->before[i] = s->total;
        s->total += s->ram.blocks[i].pages;
    }
    s->w->ram = s->total * RAM_PAGE_SIZE;
    return s->total > 0 ? 0 : error_set(err, ERROR_REFUSED, "the guest has no memory");
}

/* ---- tracking ---- */

struct found {
    struct watching *s;
    uint64_t *written; /* of the trace */
};

static void mark_written(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    const struct found *f = opaque;
    struct watching *s = f->s;
    first += s->before[block];
    end += s->before[block];
    s->dirty_pages += end - first;
    double guess = (double)first / s->w->trace.scale;
    uint32_t i = guess < 1 ? 0 : (uint32_t)guess - 1;
    while (i < s->w->trace.pages && s->pages[i] < first) {
        i++;
    }
    for (; i < s->w->trace.pages && s->pages[i] < end; i++) {
        bits_set(f->written, i);
        bits_set(s->ever, i);
    }
}

static int look(struct watching *s, view_found_fn *found, void *opaque, struct error *err) {
    return view_scan(&s->view, found, opaque, err);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): mark_written() writes what it points to */
static int scan(struct watching *s, uint64_t *written, struct error *err) {
    struct found found = { s, written };
    if (look(s, mark_written, &found, err) < 0) {
        return -1;
    }
    forecast_note_least(&s->w->scan, s->view.scan_time);
    return 0;
}

static int attach(struct watching *s, struct error *err) {
    int64_t begin = clock_now();
    enum tracker_kind kind = (enum tracker_kind)s->config->params->value[PARAM_TRACKER];
    int rc = view_track(&s->view, kind, NULL, err) < 0 ? -1 : look(s, NULL, NULL, err);
    s->w->attach = clock_now() - begin;
    return rc;
}

/* How long it takes the VMM to answer says how long it takes for what it does at a switchover (policy/forecast.h). A
 * drain would tell better, but is not for who only looks. */
static int time_answer(struct watching *s, struct error *err) {
    const struct vmm_ops *ops = s->config->vmm->ops;
    for (unsigned i = 0; i < ANSWERS; i++) {
        bool running;
        int64_t begin = clock_now();
        if (ops->guest_running(s->config->vmm, &running, err) < 0) {
            return -1;
        }
        forecast_note_least(&s->w->answer, clock_now() - begin);
    }
    return 0;
}

/* ---- reading ---- */

static struct ram_block *block_of(struct watching *s, uint64_t *page) {
    struct ram_block *b = s->ram.blocks;
    while (*page >= b->pages) {
        *page -= b->pages;
        b++;
    }
    return b;
}

static int read_page(struct watching *s, uint32_t i, uint8_t *to, struct error *err) {
    uint64_t page = s->pages[i];
    const struct ram_block *b = block_of(s, &page);
    return ram_read(b, page, 1, to, err);
}

static int copy_some(struct watching *s, struct error *err) {
    struct copies *c = &s->copies;
    uint32_t n = s->w->trace.pages;
    c->step = n > COPIES ? n / COPIES : 1;
    c->count = n / c->step;
    c->bytes = malloc((size_t)c->count * RAM_PAGE_SIZE);
    if (c->bytes == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for copies of some pages");
    }
    for (uint32_t i = 0; i < c->count; i++) {
        if (read_page(s, i * c->step, c->bytes + (size_t)i * RAM_PAGE_SIZE, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- watching ---- */

static int wait_until(struct watching *s, int64_t when, struct error *err) {
    int64_t left;
    while ((left = when - clock_now()) > 0) {
        struct pollfd p[2] = { { .fd = s->config->signal_fd, .events = POLLIN },
                               { .fd = s->config->vmm->ops->poll_fd(s->config->vmm), .events = POLLIN } };
        struct timespec timeout = { .tv_sec = left / CLOCK_S, .tv_nsec = left % CLOCK_S };
        if (ppoll(p, 2, &timeout, NULL) < 0 && errno != EINTR) {
            return error_errno(err, ERROR_SYSTEM, "poll");
        }
        if (p[0].revents != 0) {
            return error_set(err, ERROR_CANCELLED, "cancelled; the guest runs on, unchanged");
        }
        if (p[1].revents != 0 && s->config->vmm->ops->drive(s->config->vmm, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void tell(const struct watching *s, int64_t begun) {
    char text[64];
    if (s->config->progress) {
        snprintf(text, sizeof(text), "watching the guest: %.0f of %.0f s", (double)(clock_now() - begun) / 1e9,
                 (double)s->config->time / 1e9);
        log_progress(text);
    }
}

static int watch(struct watching *s, struct error *err) {
    if (look(s, NULL, NULL, err) < 0) { /* what was written while pages were copied is of no trace */
        return -1;
    }
    int64_t begun = clock_now(), end = begun + s->config->time, last = s->view.scanned_at;
    do {
        int64_t slot = (clock_now() - begun) / SAMPLE_INTERVAL;
        int64_t interval = slot % CYCLE < CLOSE ? SHORT_INTERVAL : SAMPLE_INTERVAL, least = SCAN_SHARE * s->w->scan;
        tell(s, begun);
        if (wait_until(s, last + (interval > least ? interval : least), err) < 0) {
            return -1;
        }
        /* The place is made first: what it takes is not to count as the guest's time. */
        uint64_t *written = trace_add(&s->w->trace, 1, err);
        if (written == NULL || scan(s, written, err) < 0) {
            return -1;
        }
        struct trace_scan *done = &s->w->trace.scans[s->w->trace.count - 1];
        done->time = s->view.scanned_at - last > 0 ? s->view.scanned_at - last : 1;
        s->w->trace.length += done->time - 1;
        last = s->view.scanned_at;
    } while (clock_now() < end);
    s->w->dirty_rate = (double)s->dirty_pages * RAM_PAGE_SIZE * 1e9 / (double)s->w->trace.length;
    return 0;
}

/* ---- afterwards ---- */

static int compare_copies(struct watching *s, struct error *err) {
    uint8_t delta[BATCH_MAX_DELTA], *dirty = malloc((size_t)MOST_DIRTY * RAM_PAGE_SIZE);
    uint32_t written = 0, same = 0, fits = 0, kept = 0;
    uint64_t bytes = 0;
    int rc = dirty != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory for what the guest wrote");
    for (uint32_t i = 0; rc == 0 && i < s->copies.count && kept < MOST_DIRTY; i++) {
        if (!bits_test(s->ever, (uint64_t)i * s->copies.step)) {
            continue;
        }
        uint8_t *now = dirty + (size_t)kept * RAM_PAGE_SIZE;
        const uint8_t *old = s->copies.bytes + (size_t)i * RAM_PAGE_SIZE;
        rc = read_page(s, i * s->copies.step, now, err);
        written++;
        if (rc == 0 && memcmp(old, now, RAM_PAGE_SIZE) == 0) {
            same++;
            continue;
        }
        size_t n = rc == 0 ? delta_encode(old, now, RAM_PAGE_SIZE, delta, sizeof(delta)) : 0;
        fits += n > 0;
        bytes += n;
        kept++;
    }
    s->w->unchanged = written > 0 ? (double)same / written : 0;
    s->w->changes = written > same ? (double)fits / (written - same) : 0;
    s->w->change_bytes = fits > 0 ? (double)bytes / fits : 0;
    if (rc == 0) {
        rc = content_measure(&s->w->dirty, s->config->params, dirty, kept, err);
    }
    free(dirty);
    return rc;
}

static int sort_sample(struct watching *s, struct error *err) {
    uint8_t page[RAM_PAGE_SIZE];
    for (size_t i = 0; i < s->ram.count; i++) {
        struct ram_block *b = &s->ram.blocks[i];
        bits_set_range(b->dirty, 0, b->pages);
    }
    if (view_skip_holes(&s->view, err) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < s->w->trace.pages; i++) {
        uint64_t number = s->pages[i];
        const struct ram_block *b = block_of(s, &number);
        if (!bits_test(b->dirty, number)) {
            s->w->kinds[i] = SIM_HOLE;
            s->w->holes++;
        } else if (ram_read(b, number, 1, page, err) < 0) {
            return -1;
        } else if (is_zero(page, sizeof(page))) {
            s->w->kinds[i] = SIM_ZERO;
            s->w->zeros++;
        } else {
            s->w->kinds[i] = SIM_DATA;
        }
    }
    return 0;
}

/* Reads as a migration does. Returns how many pages that are not zero came to lie at `to`. */
static int gather(struct watching *s, uint32_t i, uint8_t *to, struct error *err) {
    uint64_t first = s->pages[i];
    const struct ram_block *b = block_of(s, &first);
    uint64_t n = b->pages - first < READ_PAGES ? b->pages - first : READ_PAGES;
    int kept = 0;
    if (ram_read(b, first, n, to, err) < 0) {
        return -1;
    }
    for (uint64_t k = 0; k < n; k++) {
        const uint8_t *from = to + k * RAM_PAGE_SIZE;
        if (is_zero(from, RAM_PAGE_SIZE)) {
            continue;
        }
        struct page_digest digest = digest_page(&s->key, from);
        uint8_t *place = to + (size_t)kept * RAM_PAGE_SIZE;
        if (place != from) {
            memcpy(place, from, RAM_PAGE_SIZE);
        }
        kept += digest_known(digest) ? 1 : 0;
    }
    return kept;
}

/* Places that lie far from each other, in an order in which the first few are so too. */
static int try_memory(struct watching *s, struct error *err) {
    uint32_t n = s->w->trace.pages, data = n - (uint32_t)(s->w->holes + s->w->zeros);
    uint8_t *bytes = malloc((size_t)(READ_PLACES + 1) * READ_PAGES * RAM_PAGE_SIZE);
    int rc = bytes != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory for a sample");
    size_t kept = 0;
    uint64_t read = 0;
    int64_t cpu = clock_thread_cpu();
    for (uint32_t k = 0; rc == 0 && data > 0 && k < 4 * READ_PLACES && kept < READ_PLACES * READ_PAGES; k++) {
        uint32_t i = (uint32_t)((double)k * 0.6180339887 * n) % n;
        if (s->w->kinds[i] != SIM_DATA) {
            continue;
        }
        int more = gather(s, i, bytes + kept * RAM_PAGE_SIZE, err);
        rc = more < 0 ? -1 : 0;
        kept += more > 0 ? (size_t)more : 0;
        read += READ_PAGES;
    }
    cpu = clock_thread_cpu() - cpu;
    s->w->gather_ns = read > 0 ? (double)cpu / ((double)read * RAM_PAGE_SIZE) : 0;
    if (rc == 0) {
        rc = content_measure(&s->w->all, s->config->params, bytes, kept, err);
    }
    free(bytes);
    return rc;
}

/* What a migration would plan with, by what the host did meanwhile. */
static void make_plan(struct watching *s) {
    struct host_load load;
    host_load_sample(s->meter, clock_now(), clock_cpu(), &load);
    struct plan_input in = plan_params(s->config->params);
    in.now = clock_now();
    in.cpus = load.cpus;
    in.cpu_idle = load.cpu_idle;
    in.cpu_own = load.cpu_own;
    in.cpu_pressure = HOST_UNKNOWN;
    in.memory_pressure = load.memory_pressure;
    in.memory_available = load.memory_available;
    in.guest_bytes = s->w->ram;
    in.channels = 2; /* as many as make no difference here */
    in.link_bound = true;
    plan_make(&in, NULL, &s->w->plan);
    s->w->budget = in.cpu_budget / 100.0;
}

static void close_all(struct watching *s) {
    view_close(&s->view);
    host_load_close(s->meter);
    ram_free(&s->ram);
    free(s->pages);
    free(s->before);
    free(s->ever);
    free(s->copies.bytes);
}

static int begin(struct watching *s, struct error *err) {
    struct host_load load;
    pid_t *threads = NULL;
    size_t count = 0;
    struct error why = { 0 };
    s->w->can_throttle = s->config->vmm->ops->cpu_threads(s->config->vmm, &threads, &count, &why) == 0 && count > 0;
    free(threads);
    s->meter = host_load_open("", err);
    if (s->meter == NULL || open_ram(s, err) < 0 || draw_sample(s, err) < 0) {
        return -1;
    }
    host_load_sample(s->meter, clock_now(), clock_cpu(), &load);
    return 0;
}

int watch_guest(const struct watch_config *config, struct watch *w, struct error *err) {
    *w = (struct watch){ 0 };
    struct watching s = { .config = config, .w = w, .view = VIEW_CLOSED };
    int rc = begin(&s, err);
    if (rc == 0) {
        rc = time_answer(&s, err) < 0 || attach(&s, err) < 0 || copy_some(&s, err) < 0 || watch(&s, err) < 0 ? -1 : 0;
    }
    if (config->progress) {
        log_progress("");
    }
    view_stop_tracking(&s.view);
    view_restore_huge(&s.view);
    if (rc == 0) {
        make_plan(&s);
        rc = compare_copies(&s, err) < 0 || sort_sample(&s, err) < 0 || try_memory(&s, err) < 0 ? -1 : 0;
    }
    close_all(&s);
    return rc;
}

void watch_free(struct watch *w) {
    trace_free(&w->trace);
    free(w->kinds);
    w->kinds = NULL;
}
