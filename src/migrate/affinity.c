/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/affinity.h"

#include "host/cpuset.h"

#include <string.h>

int affinity_apply(const char *list, struct error *err) {
    struct cpuset cpus;
    if (strcmp(list, "auto") == 0) {
        return 0;
    }
    if (cpuset_parse(list, &cpus, err) < 0 || cpuset_apply(0, &cpus, err) < 0) {
        return error_prefix(err, "cpu-affinity=%s: ", list);
    }
    return 0;
}
