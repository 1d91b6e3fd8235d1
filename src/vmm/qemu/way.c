/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way the device state goes. A migration that skips the guest's RAM is what QEMU supports: it minds blockers, and
 * tells devices of it. Where QEMU does not skip it, saving the devices alone costs it no time; its own stream with all
 * RAM in it comes last.
 */
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <stdio.h>
#include <string.h>

/* The first block of the guest that would be sent; NULL: all are skipped. */
static const struct vmm_ram *find_sent(const struct vmm *vmm) {
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].guest && !vmm->ram[i].skipped) {
            return &vmm->ram[i];
        }
    }
    return NULL;
}

static int take(struct vmm_choice *choice, enum vmm_way way, const char *why) {
    choice->way = way;
    snprintf(choice->why, sizeof(choice->why), "%s", why);
    return 0;
}

#define SKIPPED "all of the guest's RAM is in files that QEMU's own migration skips"

/* By QEMU's own migration, in whichever form. `bar`: what stands against saving; "" when that was not wished for. */
static int migrate(const struct vmm *vmm, const char *bar, struct vmm_choice *choice) {
    char why[sizeof(choice->why)];
    const struct vmm_ram *sent = find_sent(vmm);
    if (sent == NULL) {
        return take(choice, VMM_WAY_SKIP, SKIPPED);
    }
    snprintf(why, sizeof(why), "QEMU's own migration sends %s, and only a filter keeps it off the wire%s%s", sent->id,
             bar[0] != '\0' ? "; saving the devices alone is barred: " : "", bar);
    return take(choice, VMM_WAY_FILTER, why);
}

int qemu_choose(struct vmm *vmm, enum vmm_wish wish, struct vmm_choice *choice, struct findings *found,
                struct error *err) {
    struct findings bars CLEANUP_FINDINGS = FINDINGS_INIT;
    *choice = (struct vmm_choice){ .way = VMM_WAY_SKIP };
    if (wish == VMM_WISH_MIGRATE || (wish == VMM_WISH_AUTO && find_sent(vmm) == NULL)) {
        return migrate(vmm, "", choice);
    }
    if (qemu_find_bars(qemu_of(vmm), wish == VMM_WISH_SAVE ? found : &bars, err) < 0) {
        return -1;
    }
    const char *bar = json_string_value(json_array_get(bars.refusals, 0));
    if (bar != NULL) {
        return migrate(vmm, bar, choice);
    }
    return take(choice, VMM_WAY_SAVE,
                wish == VMM_WISH_SAVE ? "it was asked for (device-state=save)"
                                      : "QEMU's own migration would send the guest's RAM");
}
