/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of the guest since it was inspected. A device or a disk image that came or went meanwhile is right at the
 * source and wrong at the destination, which was started to match what was there then.
 *
 *   before the stop   everything, also what takes its time: nothing has begun at the destination, and it stays of use
 *   in the pause      what five questions to QEMU and its own /proc tell, while the last pages are sent
 *
 * What comes between the two and needs the long look (another process that maps the RAM) comes with a device, and that
 * the short one sees.
 */
#include "base/cleanup.h"
#include "vmm/qemu/describe.h"
#include "vmm/qemu/disks.h"
#include "vmm/qemu/internal.h"

static int check_devices(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *now = describe_devices(q->qmp, err);
    struct name_list gone = { 0 }, new = { 0 };
    if (now == NULL || compare_devices(json_object_get(q->described, "devices"), now, &gone, &new) < 0) {
        return -1;
    }
    if (gone.used > 0) {
        findings_refuse(found, "unplugged from the guest meanwhile: %s", gone.text);
    }
    if (new.used > 0) {
        findings_refuse(found, "plugged into the guest meanwhile: %s", new.text);
    }
    return 0;
}

static int check_disks(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *now = disks_describe(q->qmp, err);
    const char *name;
    json_t *disk;
    if (now == NULL) {
        return -1;
    }
    json_object_foreach(now, name, disk) {
        const json_t *before = json_object_get(json_object_get(q->described, "disks"), name);
        if (before != NULL && json_equal(before, disk) == 0) {
            findings_refuse(found,
                            "the image behind the disk %s was changed meanwhile (a snapshot, a resize, another "
                            "medium?): the destination has the one from before",
                            name);
        }
    }
    return 0;
}

static int check_all(struct qemu *q, struct findings *found, struct error *err) {
    if (q->described == NULL) {
        return 0; /* nobody was told of this guest */
    }
    return check_devices(q, found, err) < 0 || check_disks(q, found, err) < 0 ? -1 : 0;
}

int qemu_still_movable(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    if (check_all(q, &found, err) < 0 || qemu_find_blockers(q, &found, err) < 0 || qemu_find_jobs(q, &found, err) < 0 ||
        findings_take(&found, qemu_check_blocked_reasons(q, err), err) < 0 ||
        findings_take(&found, qemu_check_ram(q, true, err), err) < 0 ||
        findings_take(&found, qemu_check_memory(q, err), err) < 0) {
        return -1;
    }
    json_array_clear(found.remarks); /* said already */
    return findings_conclude(&found, err);
}

int qemu_unchanged(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    if (findings_take(&found, qemu_check_ram(q, false, err), err) < 0 ||
        findings_take(&found, qemu_check_memory(q, err), err) < 0 || check_all(q, &found, err) < 0) {
        return -1;
    }
    return findings_conclude(&found, err);
}
