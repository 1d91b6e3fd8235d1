/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cpuset.h"

#include "base/text.h"
#include "host/file.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* One "N" or "N-M" off the front of *text. */
static bool parse_range(const char **text, uint64_t *first, uint64_t *last) {
    if (!text_number(text, first)) {
        return false;
    }
    *last = *first;
    if (**text == '-') {
        (*text)++;
        return text_number(text, last) && *first <= *last;
    }
    return true;
}

int cpuset_parse(const char *text, struct cpuset *set, struct error *err) {
    struct cpuset parsed = { 0 };
    const char *at = text;
    do {
        uint64_t first, last;
        at += at != text; /* the comma */
        if (!parse_range(&at, &first, &last) || (*at != ',' && *at != '\0')) {
            return error_set(err, ERROR_USAGE, "'%.64s' is no list of CPUs such as 0-3,8", text);
        }
        if (last >= CPUSET_CPUS) {
            return error_set(err, ERROR_USAGE, "'%.64s': CPUs are numbered 0 to %d", text, CPUSET_CPUS - 1);
        }
        bits_set_range(parsed.bits, first, last + 1);
    } while (*at == ',');
    *set = parsed;
    return 0;
}

char *cpuset_format(const struct cpuset *set, char *to, size_t size) {
    size_t used = 0;
    to[0] = '\0';
    for (uint64_t first = bits_next_set(set->bits, 0, CPUSET_CPUS); first < CPUSET_CPUS;) {
        uint64_t end = bits_next_clear(set->bits, first, CPUSET_CPUS);
        char range[16];
        int n = end - first == 1 ? snprintf(range, sizeof(range), "%u", (unsigned)first)
                                 : snprintf(range, sizeof(range), "%u-%u", (unsigned)first, (unsigned)end - 1);
        if (used + (size_t)n + sizeof(",,...") > size) {
            snprintf(to + used, size - used, used > 0 ? ",..." : "...");
            break;
        }
        used += (size_t)snprintf(to + used, size - used, "%s%s", used > 0 ? "," : "", range);
        first = bits_next_set(set->bits, end, CPUSET_CPUS);
    }
    return to;
}

int cpuset_get(pid_t tid, struct cpuset *set, struct error *err) {
    memset(set, 0, sizeof(*set));
    if (sched_getaffinity(tid, sizeof(set->bits), (cpu_set_t *)set->bits) != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the CPU affinity of thread %d", (int)tid);
    }
    return 0;
}

/* Whether the CPU runs at all, as far as can be seen. */
static bool is_online(unsigned cpu) {
    struct host_text text = { 0 };
    struct cpuset online;
    struct error ignored = { 0 };
    int fd = host_open("", "/sys/devices/system/cpu/online");
    char *list = host_read(fd, &text);
    bool found = true;
    if (list != NULL) {
        list[strcspn(list, "\n")] = '\0';
        found = cpuset_parse(list, &online, &ignored) != 0 || cpuset_has(&online, cpu);
    }
    host_text_free(&text);
    host_close(&fd);
    return found;
}

/* The first CPU that is in `wanted` and not in `got`, or CPUSET_CPUS. */
static unsigned first_missing(const struct cpuset *wanted, const struct cpuset *got) {
    for (size_t i = 0; i < CPUSET_CPUS / 64; i++) {
        uint64_t missing = wanted->bits[i] & ~got->bits[i];
        if (missing != 0) {
            return (unsigned)(i * 64) + (unsigned)__builtin_ctzll(missing);
        }
    }
    return CPUSET_CPUS;
}

static int refuse(unsigned cpu, struct error *err) {
    if (!is_online(cpu)) {
        return error_set(err, ERROR_USAGE, "cpu-affinity: CPU %u does not exist on this host or is offline", cpu);
    }
    return error_set(err, ERROR_USAGE, "cpu-affinity: CPU %u is outside the cpuset cgroup of this process", cpu);
}

int cpuset_apply(pid_t tid, const struct cpuset *set, struct error *err) {
    struct cpuset before, after;
    if (cpuset_get(tid, &before, err) != 0) {
        return -1;
    }
    if (sched_setaffinity(tid, sizeof(set->bits), (const cpu_set_t *)set->bits) != 0) {
        if (errno == EINVAL) { /* not one of them can be had */
            return refuse((unsigned)bits_next_set(set->bits, 0, CPUSET_CPUS), err);
        }
        return error_errno(err, ERROR_SYSTEM, "cannot set the CPU affinity of thread %d", (int)tid);
    }
    if (cpuset_get(tid, &after, err) != 0) {
        return -1;
    }
    unsigned missing = first_missing(set, &after);
    if (missing < CPUSET_CPUS) {
        sched_setaffinity(tid, sizeof(before.bits), (const cpu_set_t *)before.bits);
        return refuse(missing, err);
    }
    return 0;
}
