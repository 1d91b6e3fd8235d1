/* SPDX-License-Identifier: Apache-2.0 */
#include "host/parse.h"

#include "base/text.h"

#include <math.h>
#include <string.h>

static bool at_end(const char *text) {
    return *text == '\0' || *text == '\n';
}

static const char *skip_blanks(const char *text) {
    return text + strspn(text, " \t");
}

/* The text behind `prefix` at the beginning of a line, or NULL. */
static const char *find_line(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    while (strncmp(text, prefix, length) != 0) {
        text = strchr(text, '\n');
        if (text == NULL) {
            return NULL;
        }
        text++;
    }
    return text + length;
}

bool parse_amount(const char *text, uint64_t *value) {
    uint64_t n = UINT64_MAX;
    if (strncmp(text, "max", 3) == 0) {
        text += 3;
    } else if (!text_number(&text, &n)) {
        return false;
    }
    if (!at_end(text)) {
        return false;
    }
    *value = n;
    return true;
}

bool parse_field(const char *text, const char *name, uint64_t *value) {
    uint64_t n;
    while ((text = find_line(text, name)) != NULL) {
        const char *number = skip_blanks(text);
        if (number != text) { /* else the name of another field begins with ours */
            if (!text_number(&number, &n) || (!at_end(number) && *number != ' ')) {
                return false;
            }
            *value = n;
            return true;
        }
    }
    return false;
}

bool parse_affinity(const char *text, struct cpuset *set) {
    char list[4096];
    struct error ignored = { 0 };
    text = find_line(text, "Cpus_allowed_list:");
    if (text == NULL) {
        return false;
    }
    text = skip_blanks(text);
    size_t length = strcspn(text, "\n");
    if (length >= sizeof(list)) {
        return false;
    }
    memcpy(list, text, length);
    list[length] = '\0';
    return cpuset_parse(list, set, &ignored) == 0;
}

enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, STATES };

/* The times behind "cpuN". The later ones, time in guests, are in user and nice already. */
static bool parse_cpu(const char *text, uint64_t *idle, uint64_t *total) {
    uint64_t state[STATES] = { 0 }, sum = 0;
    int states = 0;
    for (; states < STATES && !at_end(skip_blanks(text)); states++) {
        const char *number = skip_blanks(text);
        if (number == text || !text_number(&number, &state[states]) ||
            __builtin_add_overflow(sum, state[states], &sum)) {
            return false;
        }
        text = number;
    }
    *idle = state[IDLE] + state[IOWAIT];
    *total = sum;
    return states > IDLE;
}

bool parse_ticks(const char *text, const struct cpuset *wanted, struct host_ticks *ticks) {
    struct host_ticks found = { 0 };
    /* The CPUs' lines are in front; a line without its end may be a part of one. */
    for (const char *end; strncmp(text, "cpu", 3) == 0 && (end = strchr(text, '\n')) != NULL; text = end + 1) {
        uint64_t cpu, idle, total;
        text += 3;
        if (*text == ' ') {
            continue; /* the sum of all */
        }
        if (!text_number(&text, &cpu) || cpu >= CPUSET_CPUS || !parse_cpu(text, &idle, &total)) {
            return false;
        }
        if ((wanted != NULL && !cpuset_has(wanted, (unsigned)cpu)) || cpuset_has(&found.cpus, (unsigned)cpu)) {
            continue;
        }
        if (__builtin_add_overflow(found.total, total, &found.total)) {
            return false;
        }
        found.idle += idle;
        bits_set(found.cpus.bits, cpu);
    }
    if (cpuset_count(&found.cpus) == 0) {
        return false;
    }
    *ticks = found;
    return true;
}

/* Percent with decimals, "12.34", off the front of *text. */
static bool parse_percent(const char **text, double *value) {
    uint64_t whole, part = 0;
    double scale = 1;
    if (!text_number(text, &whole) || whole > 100) {
        return false;
    }
    if (**text == '.') {
        const char *begin = ++*text;
        if (!text_number(text, &part)) {
            return false;
        }
        for (; begin < *text; begin++) {
            scale *= 10;
        }
    }
    *value = (double)whole + (double)part / scale;
    return true;
}

bool parse_pressure(const char *text, const char *line, struct host_pressure *p) {
    struct host_pressure found = { 0 };
    text = find_line(text, line);
    if (text == NULL || strncmp(text, " avg10=", 7) != 0) {
        return false;
    }
    text += 7;
    if (!parse_percent(&text, &found.avg10) || *text != ' ') {
        return false;
    }
    const char *end = text + strcspn(text, "\n"), *total = strstr(text, " total=");
    if (total == NULL || total > end) {
        return false;
    }
    total += 7;
    if (!text_number(&total, &found.total) || !at_end(total)) {
        return false;
    }
    *p = found;
    return true;
}

static bool divide_quota(uint64_t quota, uint64_t period, double *cpus) {
    if (quota == 0 || period == 0) {
        return false;
    }
    *cpus = (double)quota / (double)period;
    return true;
}

bool parse_quota(const char *text, double *cpus) {
    uint64_t quota = 0, period;
    bool none = strncmp(text, "max ", 4) == 0;
    if (none) {
        text += 3;
    } else if (!text_number(&text, &quota)) {
        return false;
    }
    if (*text++ != ' ' || !text_number(&text, &period) || !at_end(text)) {
        return false;
    }
    if (none) {
        *cpus = INFINITY;
        return true;
    }
    return divide_quota(quota, period, cpus);
}

bool parse_quota_v1(const char *quota, const char *period, double *cpus) {
    uint64_t q, p;
    if (strncmp(quota, "-1", 2) == 0 && at_end(quota + 2)) {
        *cpus = INFINITY;
        return true;
    }
    return text_number(&quota, &q) && at_end(quota) && text_number(&period, &p) && at_end(period) &&
           divide_quota(q, p, cpus);
}

/* Whether the comma-separated list at `list`, `length` bytes long, has `name`. */
static bool list_has(const char *list, size_t length, const char *name) {
    size_t wanted = strlen(name);
    for (const char *end = list + length; list <= end;) {
        size_t n = 0;
        while (list + n < end && list[n] != ',') {
            n++;
        }
        if (n == wanted && memcmp(list, name, n) == 0) {
            return true;
        }
        list += n + 1;
    }
    return false;
}

/* Copies `length` bytes of a path; false when it does not fit or is none. */
static bool copy_path(const char *from, size_t length, char *to, size_t size) {
    if (length == 0 || length >= size || from[0] != '/') {
        return false;
    }
    memcpy(to, from, length);
    to[length] = '\0';
    return true;
}

bool parse_group(const char *text, const char *controller, char *path, size_t size) {
    for (const char *next; *text != '\0'; text = next) { /* "4:cpu,cpuacct:/path" */
        size_t line = strcspn(text, "\n");
        next = text + line + (text[line] == '\n');
        const char *list = memchr(text, ':', line);
        if (list == NULL) {
            continue;
        }
        list++;
        const char *colon = memchr(list, ':', line - (size_t)(list - text));
        if (colon != NULL && list_has(list, (size_t)(colon - list), controller)) {
            return copy_path(colon + 1, line - (size_t)(colon + 1 - text), path, size);
        }
    }
    return false;
}

/* The next word of a line that ends at `end`; its length, 0 at the end. */
static size_t next_word(const char **at, const char *end, const char **word) {
    while (*at < end && **at == ' ') {
        (*at)++;
    }
    *word = *at;
    while (*at < end && **at != ' ') {
        (*at)++;
    }
    return (size_t)(*at - *word);
}

/* "31 23 0:26 /root /point rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct" */
static bool parse_mount_line(const char *at, const char *end, struct host_mount *m) {
    const char *word;
    size_t n;
    memset(m, 0, sizeof(*m));
    for (int i = 0; i < 3; i++) {
        next_word(&at, end, &word);
    }
    n = next_word(&at, end, &word);
    if (!copy_path(word, n, m->root, sizeof(m->root))) {
        return false;
    }
    n = next_word(&at, end, &word);
    if (!copy_path(word, n, m->point, sizeof(m->point))) {
        return false;
    }
    do {
        n = next_word(&at, end, &word);
    } while (n > 0 && !(n == 1 && *word == '-'));
    n = next_word(&at, end, &word);
    m->v2 = n == 7 && memcmp(word, "cgroup2", 7) == 0;
    if (!m->v2 && (n != 6 || memcmp(word, "cgroup", 6) != 0)) {
        return false;
    }
    next_word(&at, end, &word);
    n = next_word(&at, end, &word);
    m->cpu = m->v2 || list_has(word, n, "cpu");
    m->memory = m->v2 || list_has(word, n, "memory");
    return m->cpu || m->memory;
}

bool parse_mount(const char **text, struct host_mount *mount) {
    while (**text != '\0') {
        const char *line = *text, *end = line + strcspn(line, "\n");
        *text = end + (*end == '\n');
        if (parse_mount_line(line, end, mount)) {
            return true;
        }
    }
    return false;
}
