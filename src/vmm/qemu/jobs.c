/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU is doing with the guest's disks that would go wrong, or get lost, when the guest leaves. */
#include "base/cleanup.h"
#include "vmm/qemu/internal.h"

#include <string.h>

/* A job reads and writes images that QEMU gives up at the switchover: depending on the version that fails the migration
 * in the pause or ends QEMU. One that has ended and only waits to be dismissed does nothing any more. */
static int check_jobs(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *jobs = NULL;
    size_t i;
    json_t *job;
    if (query_if_known(q->qmp, "query-jobs", NULL, &jobs, err) < 0) {
        return -1;
    }
    json_array_foreach(jobs, i, job) {
        char id[128], type[64], status[64];
        query_string(json_object_get(job, "id"), id, sizeof(id));
        query_string(json_object_get(job, "type"), type, sizeof(type));
        query_string(json_object_get(job, "status"), status, sizeof(status));
        if (strcmp(status, "concluded") != 0 && strcmp(status, "null") != 0) {
            findings_refuse(found,
                            "a job works on the guest's disks: %s \"%s\" (%s): wait for its end or cancel it "
                            "(block-job-cancel, job-cancel)",
                            type, id, status);
        }
    }
    return 0;
}

static int check_dump(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *dump = NULL;
    if (query_if_known(q->qmp, "query-dump", NULL, &dump, err) < 0) {
        return -1;
    }
    const char *status = json_string_value(json_object_get(dump, "status"));
    if (status != NULL && strcmp(status, "active") == 0) {
        findings_refuse(found, "QEMU is writing a dump of the guest's memory: wait for its end");
    }
    return 0;
}

/* A persistent bitmap is in the image, where the destination finds it. */
static int check_bitmaps(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *drives = NULL;
    size_t i, k;
    json_t *drive, *bitmap;
    if (query_if_known(q->qmp, "query-block", NULL, &drives, err) < 0) {
        return -1;
    }
    json_array_foreach(drives, i, drive) {
        json_array_foreach(json_object_get(json_object_get(drive, "inserted"), "dirty-bitmaps"), k, bitmap) {
            char name[128], path[256];
            query_string(json_object_get(drive, "qdev"), path, sizeof(path));
            if (!json_is_true(json_object_get(bitmap, "persistent")) &&
                query_string(json_object_get(bitmap, "name"), name, sizeof(name))) {
                findings_remark(found,
                                "the dirty bitmap \"%s\" of %s is in QEMU's memory only and stays behind: the next "
                                "backup has to be a full one",
                                name, path);
            }
        }
    }
    return 0;
}

int qemu_find_jobs(struct qemu *q, struct findings *found, struct error *err) {
    return check_jobs(q, found, err) < 0 || check_dump(q, found, err) < 0 || check_bitmaps(q, found, err) < 0 ? -1 : 0;
}
