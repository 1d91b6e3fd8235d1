/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel, or a container's runtime in its place, writes about the host's load (host/parse.h). */
#include "base/text.h"
#include "fuzz.h"
#include "host/parse.h"

#include <math.h>

static void check_numbers(const char *text) {
    const char *at = text;
    uint64_t value;
    double cpus = 0;
    struct host_pressure p;
    if (text_number(&at, &value)) {
        MUST(at > text);
    }
    parse_amount(text, &value);
    parse_field(text, "MemAvailable:", &value);
    parse_field(text, "inactive_file", &value);
    if (parse_pressure(text, "some", &p)) {
        MUST(p.avg10 >= 0 && p.avg10 < 101.1);
    }
    if (parse_quota(text, &cpus)) {
        MUST(cpus > 0);
    }
    const char *second = strchr(text, '\n');
    if (parse_quota_v1(text, second != NULL ? second + 1 : "100000", &cpus)) {
        MUST(cpus > 0);
    }
}

static void check_sets(const char *text) {
    struct cpuset set, again;
    struct host_ticks ticks;
    struct error err = { 0 };
    char list[65536];
    if (cpuset_parse(text, &set, &err) == 0) {
        MUST(cpuset_count(&set) > 0);
        cpuset_format(&set, list, sizeof(list));
        MUST(cpuset_parse(list, &again, &err) == 0 && memcmp(&set, &again, sizeof(set)) == 0);
        char little[8];
        MUST(strlen(cpuset_format(&set, little, sizeof(little))) < sizeof(little));
    } else {
        MUST(error_is_set(&err));
    }
    parse_affinity(text, &set);
    if (parse_ticks(text, NULL, &ticks)) {
        MUST(cpuset_count(&ticks.cpus) > 0 && ticks.idle <= ticks.total);
    }
}

static void check_groups(const char *text) {
    struct host_mount m;
    char path[64];
    const char *at = text, *end = text + strlen(text);
    while (parse_mount(&at, &m)) {
        MUST(at <= end && m.root[0] == '/' && m.point[0] == '/' && (m.cpu || m.memory));
        MUST(memchr(m.root, '\0', sizeof(m.root)) != NULL && memchr(m.point, '\0', sizeof(m.point)) != NULL);
    }
    MUST(at == end);
    const char *controllers[] = { "", "cpu", "memory" };
    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
        if (parse_group(text, controllers[i], path, sizeof(path))) {
            MUST(path[0] == '/' && strlen(path) < sizeof(path) && strchr(path, '\n') == NULL);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = text_of(data, size);
    check_numbers(text);
    check_sets(text);
    check_groups(text);
    free(text);
    return 0;
}
