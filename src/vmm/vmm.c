/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm.h"

#include <string.h>

const char *const vmm_way_names[VMM_WAY_COUNT] = {
    [VMM_WAY_SKIP] = "skip", [VMM_WAY_SAVE] = "save", [VMM_WAY_FILTER] = "filter"
};

int vmm_way_find(const char *name) {
    for (int i = 0; i < VMM_WAY_COUNT; i++) {
        if (strcmp(vmm_way_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

int vmm_choose(struct vmm *vmm, enum vmm_wish wish, struct vmm_choice *choice, struct error *err) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    return vmm->ops->choose(vmm, wish, choice, &found, err) < 0 ? -1 : findings_conclude(&found, err);
}

int vmm_inspect(struct vmm *vmm, enum vmm_side side, struct error *err) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    return vmm->ops->inspect(vmm, side, &found, err) < 0 ? -1 : findings_conclude(&found, err);
}

int vmm_match(struct vmm *vmm, json_t *source, struct error *err) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    return vmm->ops->match(vmm, source, &found, err) < 0 ? -1 : findings_conclude(&found, err);
}

bool vmm_carries(void *opaque, const char *id) {
    const struct vmm *vmm = opaque;
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (!vmm->ram[i].skipped && strcmp(vmm->ram[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}
