/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's half of a check. Everything in `args` comes from the other side. */
#include "migrate/check.h"

#include "base/clock.h"
#include "host/load.h"
#include "view/memory.h"

#include <stdlib.h>

/* What is wrong is a finding, whatever its class: there is nothing here that could fail. */
static void take(struct findings *f, int rc, struct error *err) {
    if (rc < 0) {
        findings_refuse(f, "%s", err->desc);
        error_clear(err);
    }
}

/* Bytes that the guest's RAM may still take from this host beyond what it holds; hugetlb pages are reserved. */
static uint64_t memory_to_come(const struct vmm *vmm, uint64_t used) {
    uint64_t size = 0, held = 0;
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].guest && !vmm->ram[i].hugetlb) {
            size += vmm->ram[i].size;
            held += memory_held(&vmm->ram[i], vmm->pid);
        }
    }
    uint64_t most = used > 0 && used < size ? used : size;
    return most > held ? most - held : 0;
}

static void check_memory(const struct vmm *vmm, json_t *args, struct findings *found) {
    struct error ignored = { 0 };
    struct host_load load = { 0 };
    struct host_meter *meter = host_load_open("", &ignored);
    if (meter == NULL) {
        return;
    }
    host_load_sample(meter, clock_now(), clock_cpu(), &load);
    host_load_close(meter);
    json_int_t used = json_integer_value(json_object_get(args, "memory"));
    uint64_t need = memory_to_come(vmm, used > 0 ? (uint64_t)used : 0);
    if (load.memory_available > 0 && need > load.memory_available) {
        findings_remark(
            found,
            "the guest needs %llu MiB more on this host, where %llu MiB are available: it would swap, or the "
            "OOM killer would choose a victim",
            (unsigned long long)(need >> 20), (unsigned long long)(load.memory_available >> 20));
    }
}

json_t *check_answer(struct vmm *vmm, const struct params *own, json_t *args) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    struct params agreed = *own;
    int merged = params_merge(&agreed, json_object_get(args, "params"), &err);
    take(&found, merged, &err);
    take(&found, vmm->ops->match(vmm, json_object_get(args, "guest"), &found, &err), &err);
    check_memory(vmm, args, &found);
    json_t *answer =
        json_pack("{s:s, s:O, s:O}", "type", "checked", "refusals", found.refusals, "remarks", found.remarks);
    if (merged == 0) {
        json_object_set_new(answer, "params", params_json(&agreed, true));
        json_object_set_new(answer, "limits", params_json(own, false));
    }
    return answer;
}
