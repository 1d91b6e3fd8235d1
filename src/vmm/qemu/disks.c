/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/disks.h"

#include "vmm/qemu/query.h"

#include <stdio.h>
#include <string.h>

#define DISKS_MAX 1024
#define CHAIN_MAX 256 /* QEMU itself goes to some 200 */
#define FILE_MAX 512
#define CURE "start the destination with the image that the guest uses now, or --set check-disks=off"

/* "vd" of "/machine/peripheral/vd/virtio-backend"; the drive's name of a device that the board has brought along, whose
 * path differs between versions of QEMU; false for a drive that no device uses. */
static bool name_disk(const json_t *drive, char *name, size_t size) {
    static const char peripheral[] = "/machine/peripheral/";
    char path[FILE_MAX];
    if (!query_string(json_object_get(drive, "qdev"), path, sizeof(path))) {
        return false;
    }
    if (strncmp(path, peripheral, sizeof(peripheral) - 1) == 0) {
        const char *id = path + sizeof(peripheral) - 1;
        snprintf(name, size, "%.*s", (int)strcspn(id, "/"), id);
        return true;
    }
    if (query_string(json_object_get(drive, "device"), name, size) && name[0] != '\0') {
        return true;
    }
    snprintf(name, size, "%s", path);
    return strncmp(path, "/machine/peripheral-anon/", 25) == 0;
}

/* QEMU names an image "json:{…}" when its name alone would not open it in the same way, as for every raw image: what
 * counts here is the file at the bottom. Other things (rbd, nbd by its members) keep that text, which leaves out what
 * is the host's own affair, such as caches and locks. */
static void name_file(const json_t *filename, char *file, size_t size) {
    const char *text = json_string_value(filename);
    CLEANUP_JSON json_t *options =
        text != NULL && strncmp(text, "json:", 5) == 0 ? json_loads(text + 5, 0, NULL) : NULL;
    const json_t *bottom = options, *below;
    while ((below = json_object_get(bottom, "file")) != NULL) {
        bottom = below;
    }
    const json_t *name = json_object_get(bottom, "filename");
    query_string(name != NULL ? name : filename, file, size);
}

static json_t *describe_image(const json_t *image) {
    json_t *files = json_array(), *formats = json_array();
    int64_t size = -1;
    query_int(json_object_get(image, "virtual-size"), &size);
    for (int i = 0; image != NULL && i < CHAIN_MAX; i++) {
        char file[FILE_MAX], format[64];
        name_file(json_object_get(image, "filename"), file, sizeof(file));
        query_string(json_object_get(image, "format"), format, sizeof(format));
        json_array_append_new(files, json_string(file));
        json_array_append_new(formats, json_string(format));
        image = json_object_get(image, "backing-image");
    }
    return json_pack("{s:I, s:o, s:o}", "size", (json_int_t)size, "files", files, "formats", formats);
}

json_t *disks_describe(struct qmp *q, struct error *err) {
    CLEANUP_JSON json_t *list = NULL;
    if (query_if_known(q, "query-block", NULL, &list, err) < 0) {
        return NULL;
    }
    json_t *disks = json_object(), *drive;
    size_t i;
    json_array_foreach(list, i, drive) {
        char name[FILE_MAX];
        if (name_disk(drive, name, sizeof(name)) && json_object_size(disks) < DISKS_MAX) {
            const json_t *image = json_object_get(json_object_get(drive, "inserted"), "image");
            json_object_set_new(disks, name, image != NULL ? describe_image(image) : json_object());
        }
    }
    return disks;
}

/* "/a/over.qcow2 on /a/base.qcow2", or "empty". */
static void write_chain(const json_t *disk, char *text, size_t size) {
    size_t i, used = 0;
    json_t *item;
    snprintf(text, size, "empty");
    json_array_foreach(json_object_get(disk, "files"), i, item) {
        char file[160];
        query_string(item, file, sizeof(file));
        int n = snprintf(text + used, size - used, "%s%s", i > 0 ? " on " : "", file);
        if (n < 0 || (size_t)n >= size - used) {
            return;
        }
        used += (size_t)n;
    }
}

enum likeness { SAME, UNKNOWN, OTHER };

/* The last part of a path or of an export's address. */
static size_t last_part(const char *name, const char **part) {
    size_t length = strcspn(name, "?");
    size_t at = length;
    while (at > 0 && name[at - 1] != '/') {
        at--;
    }
    *part = name + at;
    return length - at;
}

/* A file's path; not a node of a device, whose name is the host's own. */
static bool is_path(const char *name) {
    return name[0] == '/' && strncmp(name, "/proc/", 6) != 0 &&
           (strncmp(name, "/dev/", 5) != 0 || strncmp(name, "/dev/shm/", 9) == 0);
}

/* Hosts may mount the storage in different places, reach an export by different addresses, and number their block
 * devices differently. A file's own name is the same everywhere. */
static enum likeness compare_files(const char *a, const char *b) {
    static const char *const by_address[] = { "nbd://", "nbds://", "nbd+unix://", "iscsi://", "nfs://", "gluster://" };
    if (strncmp(a, "/dev/fdset/", 11) == 0 || strncmp(b, "/dev/fdset/", 11) == 0) {
        return UNKNOWN; /* a descriptor that was passed in: its number is no name */
    }
    if (strcmp(a, b) == 0) {
        return SAME;
    }
    bool plain = is_path(a) && is_path(b);
    for (size_t i = 0; i < sizeof(by_address) / sizeof(by_address[0]) && !plain; i++) {
        size_t length = strlen(by_address[i]);
        plain = strncmp(a, by_address[i], length) == 0 && strncmp(b, by_address[i], length) == 0;
    }
    const char *x, *y;
    size_t n = last_part(a, &x), m = last_part(b, &y);
    return plain && (n != m || memcmp(x, y, n) != 0) ? OTHER : UNKNOWN;
}

/* Two lists of names of the same length. */
static enum likeness compare_chains(const json_t *a, const json_t *b) {
    enum likeness worst = SAME;
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)a, i, item) {
        char x[FILE_MAX], y[FILE_MAX];
        query_string(item, x, sizeof(x));
        query_string(json_array_get(b, i), y, sizeof(y));
        enum likeness likeness = compare_files(x, y);
        worst = likeness > worst ? likeness : worst;
    }
    return worst;
}

/* The content of a flash moves with the guest, whatever file it began in. */
static bool is_flash(const char *name) {
    return strncmp(name, "pflash", 6) == 0;
}

static void match_disk(const char *name, const json_t *here, const json_t *there, struct findings *found) {
    const json_t *files = json_object_get(here, "files"), *others = json_object_get(there, "files");
    char ours[400], theirs[400];
    write_chain(here, ours, sizeof(ours));
    write_chain(there, theirs, sizeof(theirs));
    int64_t size = 0, other_size = 0;
    query_int(json_object_get(here, "size"), &size);
    query_int(json_object_get(there, "size"), &other_size);
    if (size != other_size) {
        findings_refuse(found, "the disk %s has %lld bytes at the source (%s) and %lld at the destination (%s): " CURE,
                        name, (long long)other_size, theirs, (long long)size, ours);
        return;
    }
    if (is_flash(name)) {
        return;
    }
    enum likeness likeness = json_array_size(files) != json_array_size(others) ? OTHER : compare_chains(files, others);
    if (json_equal(json_object_get(here, "formats"), json_object_get(there, "formats")) == 0 &&
        json_array_size(files) > 0) {
        likeness = OTHER;
    }
    if (likeness == OTHER) {
        findings_refuse(found, "the disk %s is %s at the source and %s at the destination: " CURE, name, theirs, ours);
    } else if (likeness == UNKNOWN) {
        findings_remark(found,
                        "the disk %s is %s at the source and %s at the destination: whether that is the same image "
                        "their names do not tell",
                        name, theirs, ours);
    }
}

void disks_match(const json_t *here, const json_t *there, struct findings *found) {
    const char *name;
    json_t *disk;
    if (!json_is_object(there) || !json_is_object(here) || json_object_size(there) > DISKS_MAX) {
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)there, name, disk) {
        const json_t *ours = json_object_get(here, name);
        if (ours != NULL) {
            match_disk(name, ours, disk, found);
        } else if (json_object_size(disk) > 0) {
            findings_refuse(found, "the source's disk %s is not at the destination", name);
        }
    }
    json_object_foreach((json_t *)(uintptr_t)here, name, disk) {
        if (json_object_size(disk) > 0 && json_object_get(there, name) == NULL) {
            findings_refuse(found, "the destination's disk %s is not at the source", name);
        }
    }
}
