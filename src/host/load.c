/* SPDX-License-Identifier: Apache-2.0 */
#include "host/load.h"

#include "base/clock.h"
#include "host/cgroup.h"
#include "host/file.h"
#include "host/parse.h"

#include <stdlib.h>
#include <string.h>

#define SHORTEST_NS (50 * CLOCK_MS)
#define LEAST_CPUS 0.01 /* of a quota; so that nobody divides by zero */

enum file { STAT, STATUS, MEMINFO, CPU_PRESSURE, MEMORY_PRESSURE, FILES };

/* /proc/self/status rather than sched_getaffinity(): it is the main thread's whoever asks, and tests can invent it. */
static const char *const paths[FILES] = {
    [STAT] = "/proc/stat",
    [STATUS] = "/proc/self/status",
    [MEMINFO] = "/proc/meminfo",
    [CPU_PRESSURE] = "/proc/pressure/cpu",
    [MEMORY_PRESSURE] = "/proc/pressure/memory",
};

/* A counter of pressure, as it was in the last sample. */
struct stall {
    bool known;
    uint64_t total; /* us */
};

struct host_meter {
    int fd[FILES];
    struct host_text text;
    struct cgroup *cgroup;
    bool sampled;
    struct host_load last;
    /* as of the last sample */
    int64_t at, own_cpu;
    struct host_ticks ticks;
    struct stall cpu, memory, memory_full;
};

static double lesser(double a, double b) {
    return a < b ? a : b;
}

struct host_meter *host_load_open(const char *root, struct error *err) {
    struct host_meter *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory for the host's load");
        return NULL;
    }
    for (int i = 0; i < FILES; i++) {
        m->fd[i] = host_open(root, paths[i]);
    }
    m->cgroup = cgroup_open(root, &m->text);
    if (m->cgroup == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory for the limits of control groups");
        host_load_close(m);
        return NULL;
    }
    return m;
}

void host_load_close(struct host_meter *m) {
    if (m == NULL) {
        return;
    }
    for (int i = 0; i < FILES; i++) {
        host_close(&m->fd[i]);
    }
    cgroup_close(m->cgroup);
    host_text_free(&m->text);
    free(m);
}

/* How many CPUs, and how many of them were idle since `before`. */
static void measure_cpus(struct host_meter *m, struct host_load *load) {
    struct cpuset allowed;
    struct host_ticks now = { 0 }, *before = &m->ticks;
    const char *text = host_read(m->fd[STATUS], &m->text);
    bool restricted = text != NULL && parse_affinity(text, &allowed);
    text = host_read(m->fd[STAT], &m->text);
    if (text == NULL || !parse_ticks(text, restricted ? &allowed : NULL, &now)) {
        load->cpus = restricted ? cpuset_count(&allowed) : 1;
        m->ticks = (struct host_ticks){ 0 };
        return;
    }
    load->cpus = cpuset_count(&now.cpus);
    /* Counters of other CPUs, as after a change of affinity, can't be compared. */
    if (memcmp(&now.cpus, &before->cpus, sizeof(now.cpus)) == 0 && now.total > before->total) {
        /* the kernel corrects its count of waiting for disks, also downwards */
        double idle = now.idle > before->idle ? (double)(now.idle - before->idle) : 0;
        load->cpu_idle = load->cpus * lesser(idle / (double)(now.total - before->total), 1);
    }
    m->ticks = now;
}

/*
 * The counter and not avg10, once there is an interval: avg10 goes on for seconds about what has long been cured, and
 * who reacts to it reacts over and over.
 */
static double measure_stall(const char *text, const char *line, int64_t elapsed, struct stall *before) {
    struct host_pressure p;
    double percent;
    if (text == NULL || !parse_pressure(text, line, &p)) {
        before->known = false;
        return HOST_UNKNOWN;
    }
    percent = p.avg10;
    if (before->known && elapsed > 0 && p.total >= before->total) {
        percent = lesser((double)(p.total - before->total) * 1e3 / (double)elapsed * 100, 100);
    }
    *before = (struct stall){ .known = true, .total = p.total };
    return percent;
}

static void measure_pressure(struct host_meter *m, int64_t elapsed, struct host_load *load) {
    const char *text = host_read(m->fd[CPU_PRESSURE], &m->text);
    load->cpu_pressure = measure_stall(text, "some", elapsed, &m->cpu);
    text = host_read(m->fd[MEMORY_PRESSURE], &m->text);
    load->memory_pressure = measure_stall(text, "some", elapsed, &m->memory);
    load->memory_stall = measure_stall(text, "full", elapsed, &m->memory_full);
}

/* A field of /proc/meminfo in bytes, 0 when it is not there. */
static uint64_t memory_field(const char *text, const char *name) {
    uint64_t kib;
    return text != NULL && parse_field(text, name, &kib) && kib <= UINT64_MAX / 1024 ? kib * 1024 : 0;
}

static void measure_memory(struct host_meter *m, struct host_load *load) {
    const char *text = host_read(m->fd[MEMINFO], &m->text);
    load->memory_total = memory_field(text, "MemTotal:");
    load->memory_available = memory_field(text, "MemAvailable:");
}

static void apply_groups(struct host_meter *m, int64_t now, struct host_load *load) {
    struct cgroup_limits limits;
    cgroup_read(m->cgroup, now, load->cpu_own > 0 ? load->cpu_own : 0, &limits);
    load->cpus = lesser(load->cpus, limits.cpus);
    load->cpus = load->cpus > LEAST_CPUS ? load->cpus : LEAST_CPUS;
    if (load->cpu_idle >= 0) {
        load->cpu_idle = lesser(load->cpu_idle, limits.cpu_idle);
    }
    if (load->memory_available > limits.memory) {
        load->memory_available = limits.memory;
    }
}

void host_load_sample(struct host_meter *m, int64_t now, int64_t own_cpu, struct host_load *load) {
    int64_t elapsed = m->sampled ? now - m->at : 0;
    if (m->sampled && elapsed < SHORTEST_NS) {
        *load = m->last;
        return;
    }
    *load = (struct host_load){ .cpu_idle = HOST_UNKNOWN, .cpu_own = HOST_UNKNOWN };
    if (elapsed > 0 && own_cpu >= m->own_cpu) {
        load->cpu_own = (double)(own_cpu - m->own_cpu) / (double)elapsed;
    }
    measure_cpus(m, load);
    measure_pressure(m, elapsed, load);
    measure_memory(m, load);
    apply_groups(m, now, load);
    m->sampled = true;
    m->at = now;
    m->own_cpu = own_cpu;
    m->last = *load;
}
