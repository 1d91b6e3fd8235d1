/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm.h"

int vmm_inspect(struct vmm *vmm, enum vmm_side side, struct error *err) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    return vmm->ops->inspect(vmm, side, &found, err) < 0 ? -1 : findings_conclude(&found, err);
}

int vmm_match(struct vmm *vmm, json_t *source, struct error *err) {
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    return vmm->ops->match(vmm, source, &found, err) < 0 ? -1 : findings_conclude(&found, err);
}
