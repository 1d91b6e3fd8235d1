/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's RAM: from QEMU's back ends to the file behind each and to where the process has it mapped.
 *
 *   QOM /objects/ID  ──mem-path──►  file (device, inode)  ◄──  /proc/PID/maps: ranges
 *
 * mem-path is a file, or a directory in which QEMU made and unlinked "qemu_back_mem.NAME.XXXXXX". One back end may have
 * several mappings (NUMA policies split it), and all of them are listed: a write through any of them is a write.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BACKENDS_MAX 256
#define CURE "start it with -object memory-backend-file,id=%s,size=…,share=on,mem-path=/dev/shm/…"

void qemu_free_ram(struct vmm *vmm) {
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].fd >= 0) {
            close(vmm->ram[i].fd);
        }
        free(vmm->ram[i].ranges);
    }
    free(vmm->ram);
    vmm->ram = NULL;
    vmm->ram_count = 0;
    free(qemu_of(vmm)->own);
    qemu_of(vmm)->own = NULL;
    qemu_of(vmm)->own_count = 0;
}

/* Which mappings can be those of a back end. */
struct wanted_file {
    char mem_path[256];
    bool directory; /* made by QEMU in mem-path: known by its name only */
    bool known;     /* device and inode are those of mem-path; otherwise it is gone, and its name must do */
    dev_t device;
    ino_t inode;
};

/* Looks at mem-path as QEMU sees it: below its root, and relative to its working directory. */
static void look_up(pid_t pid, struct wanted_file *f) {
    char path[320];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/%s/%s", (int)pid, f->mem_path[0] == '/' ? "root" : "cwd", f->mem_path);
    if (stat(path, &st) == 0) {
        f->known = true;
        f->directory = S_ISDIR(st.st_mode);
        f->device = st.st_dev;
        f->inode = st.st_ino;
    }
}

/* "…/qemu_back_mem.NAME.XXXXXX", where NAME is the id or its QOM path with "_" for "/". */
static bool is_made_for(const char *path, const char *id) {
    static const char *const prefixes[] = { "", "_objects_" };
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        char name[192];
        snprintf(name, sizeof(name), "/qemu_back_mem.%s%s.", prefixes[i], id);
        const char *found = strstr(path, name);
        size_t suffix = found ? strcspn(found + strlen(name), "/. ") : 0;
        if (suffix == 6) {
            return true;
        }
    }
    return false;
}

static bool is_mapping_of(const struct mapping *m, const struct wanted_file *f, const char *id) {
    if (!m->shared || !m->readable || m->inode == 0) {
        return false;
    }
    if (f->known && f->directory) {
        return m->device == f->device && is_made_for(m->path, id);
    }
    if (f->known && m->device == f->device && m->inode == f->inode) {
        return true;
    }
    /* unlinked or replaced since */
    size_t length = strlen(f->mem_path);
    return strncmp(m->path, f->mem_path, length) == 0 && strcmp(m->path + length, " (deleted)") == 0;
}

static int add_range(struct vmm_ram *ram, const struct mapping *m, struct error *err) {
    struct vmm_ram_range *larger = reallocarray(ram->ranges, ram->range_count + 1, sizeof(*larger));
    if (larger == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory");
    }
    ram->ranges = larger;
    ram->ranges[ram->range_count++] = (struct vmm_ram_range){ m->start, m->end, m->offset };
    return 0;
}

static int by_offset(const void *a, const void *b) {
    const struct vmm_ram_range *x = a, *y = b;
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Sorts the ranges, and sees that together they map every byte of the back end. */
static int check_covered(struct vmm_ram *ram, pid_t pid, struct error *err) {
    uint64_t covered = 0;
    qsort(ram->ranges, ram->range_count, sizeof(*ram->ranges), by_offset);
    for (size_t i = 0; i < ram->range_count; i++) {
        const struct vmm_ram_range *r = &ram->ranges[i];
        uint64_t end = r->offset + (r->end - r->start);
        if (r->offset > covered) {
            break;
        }
        covered = end > covered ? end : covered;
    }
    if (covered >= ram->size) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED, "process %d maps %" PRIu64 " of the %" PRIu64 " bytes of the RAM back end %s",
                     (int)pid, covered, ram->size, ram->id);
}

/* Finds the mappings of one back end; *first is one of them. */
static int find_ranges(struct qemu *q, struct vmm_ram *ram, const struct wanted_file *f, const struct mapping *maps,
                       size_t count, const struct mapping **first, struct error *err) {
    *first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!is_mapping_of(&maps[i], f, ram->id)) {
            continue;
        }
        if (*first == NULL) {
            *first = &maps[i];
        } else if (maps[i].device != (*first)->device || maps[i].inode != (*first)->inode) {
            return error_set(err, ERROR_REFUSED, "%s and %s both look like the file of the RAM back end %s",
                             (*first)->path, maps[i].path, ram->id);
        }
        if (add_range(ram, &maps[i], err) < 0) {
            return -1;
        }
    }
    if (*first == NULL) {
        return error_set(err, ERROR_REFUSED,
                         "process %d does not map %s of the RAM back end %s: if it is not the QEMU behind this QMP "
                         "socket, pass --pid",
                         (int)q->vmm.pid, f->mem_path, ram->id);
    }
    ram->device = (*first)->device;
    ram->inode = (*first)->inode;
    return check_covered(ram, q->vmm.pid, err);
}

/* Sees what the file is, by a descriptor that cannot read or write it yet; takes its page size from the file system. */
static int look_at_file(struct vmm_ram *ram, const char *path, int handle, struct error *err) {
    struct statfs fs;
    struct stat st;
    if (fstatfs(handle, &fs) < 0 || fstat(handle, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at the file of the RAM back end %s", ram->id);
    }
    ram->hugetlb = (uint64_t)fs.f_type == HUGETLBFS_MAGIC;
    ram->page_size = ram->hugetlb ? (uint64_t)fs.f_bsize : 4096;
    if (!ram->hugetlb && (uint64_t)fs.f_type != TMPFS_MAGIC) {
        return error_set(err, ERROR_REFUSED,
                         "the RAM back end %s is on a file system that is neither tmpfs nor "
                         "hugetlbfs (%s): " CURE,
                         ram->id, path, ram->id);
    }
    if (!S_ISREG(st.st_mode) || st.st_dev != ram->device || st.st_ino != ram->inode || st.st_size < 0 ||
        (uint64_t)st.st_size < ram->size) {
        return error_set(err, ERROR_REFUSED, "%s is not the file of the RAM back end %s, or too short", path, ram->id);
    }
    if (ram->page_size == 0 || ram->size % ram->page_size != 0) {
        return error_set(err, ERROR_REFUSED, "the size of the RAM back end %s is no multiple of its page size",
                         ram->id);
    }
    return 0;
}

/* A mapping that is shared and writable is the kernel's word that the process has had this file open for writing. It is
 * asked for once the file is held: whatever the process maps anew meanwhile, the proof is of the file that we hold. */
static int check_may_write(pid_t pid, const struct vmm_ram *ram, const char *path, struct error *err) {
    CLEANUP_FREE struct mapping *maps = NULL;
    size_t count;
    if (process_mappings(pid, &maps, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        const struct mapping *m = &maps[i];
        if (m->shared && m->writable && m->device == ram->device && m->inode == ram->inode) {
            return 0;
        }
    }
    return error_set(err, ERROR_REFUSED,
                     "process %d maps %s of the RAM back end %s for reading only: it may not be written in its place",
                     (int)pid, path, ram->id);
}

/* Opens the file behind a mapping, when the process itself may write it. With our rights a file could be opened that it
 * may only read, and would then be filled with another guest's memory. */
static int open_file(struct qemu *q, struct vmm_ram *ram, const struct mapping *m, struct error *err) {
    char path[64];
    CLEANUP_CLOSE int handle = process_open_mapping(q->vmm.pid, m, O_PATH, err);
    if (handle < 0) {
        return error_prefix(err, "RAM back end %s: ", ram->id);
    }
    if (look_at_file(ram, m->path, handle, err) < 0 || check_may_write(q->vmm.pid, ram, m->path, err) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", handle);
    ram->fd = open(path, (q->side == VMM_SOURCE ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    return ram->fd >= 0 ? 0 : error_errno(err, ERROR_SYSTEM, "RAM back end %s: cannot open %s", ram->id, m->path);
}

static int check_other_mapper(struct qemu *q, const struct vmm_ram *ram, struct error *err) {
    pid_t other;
    char name[64];
    int n = process_find_other_mapper(q->vmm.pid, ram->device, ram->inode, &other, name, sizeof(name), err);
    if (n > 0) {
        return error_set(err, ERROR_REFUSED,
                         "process %d (%s) maps the guest's RAM too: vhost-user back ends and the like write it unseen; "
                         "detach it first",
                         (int)other, name);
    }
    return n;
}

static int check_others(struct qemu *q, const struct vmm_ram *ram, struct error *err) {
    for (size_t i = 0; i + 1 < q->vmm.ram_count; i++) {
        if (q->vmm.ram[i].device == ram->device && q->vmm.ram[i].inode == ram->inode) {
            return error_set(err, ERROR_REFUSED, "the RAM back ends %s and %s share one file: give each its own",
                             q->vmm.ram[i].id, ram->id);
        }
    }
    return check_other_mapper(q, ram, err);
}

/* What the back end says of itself. */
static int read_properties(struct qemu *q, struct vmm_ram *ram, struct wanted_file *f, struct error *err) {
    char path[160];
    bool share;
    int64_t size, offset;
    snprintf(path, sizeof(path), "/objects/%s", ram->id);
    if (query_property_bool(q->qmp, path, "share", &share, err) < 0 ||
        query_property_int(q->qmp, path, "size", &size, err) < 0 ||
        query_property_string(q->qmp, path, "mem-path", f->mem_path, sizeof(f->mem_path), err) < 0 ||
        query_optional_int(q->qmp, path, "offset", 0, &offset, err) < 0) {
        return -1;
    }
    if (!share) {
        return error_set(err, ERROR_REFUSED, "the RAM back end %s is private to QEMU (share=off): " CURE, ram->id,
                         ram->id);
    }
    if (offset != 0) {
        return error_set(err, ERROR_REFUSED,
                         "the RAM back end %s begins inside its file (offset=%" PRId64 "): give it a "
                         "file of its own",
                         ram->id, offset);
    }
    if (size <= 0) {
        return error_set(err, ERROR_VMM, "QEMU says that the RAM back end %s has %" PRId64 " bytes", ram->id, size);
    }
    ram->size = (uint64_t)size;
    return 0;
}

struct search {
    struct qemu *q;
    struct findings *found;
    struct mapping *maps;
    size_t count;
};

struct vmm_ram *qemu_add_ram(struct qemu *q, const char *id, struct error *err) {
    struct vmm_ram *larger = reallocarray(q->vmm.ram, q->vmm.ram_count + 1, sizeof(*larger));
    if (larger == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    q->vmm.ram = larger;
    struct vmm_ram *ram = &q->vmm.ram[q->vmm.ram_count++];
    *ram = (struct vmm_ram){ .fd = -1 };
    snprintf(ram->id, sizeof(ram->id), "%s", id);
    return ram;
}

static void drop_last(struct qemu *q) {
    struct vmm_ram *ram = &q->vmm.ram[--q->vmm.ram_count];
    if (ram->fd >= 0) {
        close(ram->fd);
    }
    free(ram->ranges);
}

static int take_file_backend(struct search *s, const char *id, struct error *err) {
    struct wanted_file f = { 0 };
    const struct mapping *first;
    if (strlen(id) >= sizeof(((struct vmm_ram *)NULL)->id) || s->q->vmm.ram_count >= BACKENDS_MAX) {
        return error_set(err, ERROR_REFUSED, "too many RAM back ends, or too long an id: %s", id);
    }
    struct vmm_ram *ram = qemu_add_ram(s->q, id, err);
    if (ram == NULL) {
        return -1;
    }
    if (read_properties(s->q, ram, &f, err) == 0) {
        look_up(s->q->vmm.pid, &f);
        if (find_ranges(s->q, ram, &f, s->maps, s->count, &first, err) == 0 && open_file(s->q, ram, first, err) == 0 &&
            check_others(s->q, ram, err) == 0) {
            return 0;
        }
    }
    drop_last(s->q);
    return -1;
}

/* One child of /objects. Back ends are taken or refused; other objects are passed over. */
static int take_backend(void *opaque, const char *name, const char *type, struct error *err) {
    struct search *s = opaque;
    if (strncmp(type, "memory-backend-", 15) != 0) {
        return 0;
    }
    if (strcmp(type, "memory-backend-file") == 0) {
        return findings_take(s->found, take_file_backend(s, name, err), err);
    }
    findings_refuse(s->found, "the guest's RAM %s is a %s, which cannot be left out of QEMU's own stream: " CURE, name,
                    type, name);
    return 0;
}

/* RAM that is in no back end would stay behind. */
static int check_total(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    int64_t base = 0, plugged = 0;
    uint64_t found = 0;
    if (qmp_execute(q->qmp, "query-memory-size-summary", NULL, &answer, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    query_int(json_object_get(answer, "base-memory"), &base);
    query_int(json_object_get(answer, "plugged-memory"), &plugged);
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        found += q->vmm.ram[i].size;
    }
    if (base > 0 && plugged >= 0 && found == (uint64_t)base + (uint64_t)plugged) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "the guest has %" PRId64 " bytes of RAM (and %" PRId64
                     " plugged in), but its RAM back ends have %" PRIu64 ": all of it must be in them: " CURE,
                     base, plugged, found, "ram0");
}

int qemu_ram_by_id(const void *a, const void *b) {
    return strcmp(((const struct vmm_ram *)a)->id, ((const struct vmm_ram *)b)->id);
}

int qemu_find_ram(struct qemu *q, struct findings *found, struct error *err) {
    struct search s = { .q = q, .found = found };
    size_t refused = json_array_size(found->refusals);
    qemu_free_ram(&q->vmm);
    if (process_mappings(q->vmm.pid, &s.maps, &s.count, err) < 0) {
        return -1;
    }
    int result = query_children(q->qmp, "/objects", take_backend, &s, err);
    free(s.maps);
    /* when a back end was refused the sum is wrong for that reason */
    if (result == 0 && json_array_size(found->refusals) == refused) {
        result = findings_take(found, check_total(q, err), err);
    }
    if (result != 0) {
        qemu_free_ram(&q->vmm);
        return -1;
    }
    if (q->vmm.ram_count > 0) {
        qsort(q->vmm.ram, q->vmm.ram_count, sizeof(*q->vmm.ram), qemu_ram_by_id); /* the same order at both ends */
    }
    return 0;
}

/* Whether the mappings of the file are those that were found at first. */
static bool same_ranges(const struct vmm_ram *ram, const struct mapping *maps, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mapping *m = &maps[i];
        if (!m->shared || !m->readable || m->device != ram->device || m->inode != ram->inode) {
            continue;
        }
        size_t k = 0;
        while (k < ram->range_count && (ram->ranges[k].start != m->start || ram->ranges[k].end != m->end ||
                                        ram->ranges[k].offset != m->offset)) {
            k++;
        }
        if (k == ram->range_count) {
            return false;
        }
        found++;
    }
    return found == ram->range_count;
}

/* Counts a back end that was inspected; stops at one that was not. */
static int count_backend(void *opaque, const char *name, const char *type, struct error *err) {
    struct search *s = opaque;
    if (strncmp(type, "memory-backend-", 15) != 0) {
        return 0;
    }
    for (size_t i = 0; i < s->q->vmm.ram_count; i++) {
        if (s->q->vmm.ram[i].kind == VMM_RAM_FILE && strcmp(s->q->vmm.ram[i].id, name) == 0) {
            s->count++;
            return 0;
        }
    }
    return error_set(err, ERROR_REFUSED, "RAM (%s) was plugged into the guest meanwhile", name);
}

int qemu_check_ram(struct qemu *q, bool others, struct error *err) {
    struct search s = { .q = q };
    CLEANUP_FREE struct mapping *maps = NULL;
    size_t count, files = 0;
    if (process_mappings(q->vmm.pid, &maps, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        if (q->vmm.ram[i].kind != VMM_RAM_FILE) {
            break; /* behind the files; own.c looks at them */
        }
        files++;
        if (!same_ranges(&q->vmm.ram[i], maps, count)) {
            return error_set(err, ERROR_REFUSED, "QEMU has mapped the RAM back end %s anew meanwhile",
                             q->vmm.ram[i].id);
        }
        if (others && check_other_mapper(q, &q->vmm.ram[i], err) < 0) {
            return -1;
        }
    }
    if (query_children(q->qmp, "/objects", count_backend, &s, err) != 0) {
        return -1;
    }
    return s.count == files ? 0 : error_set(err, ERROR_REFUSED, "RAM was unplugged from the guest meanwhile");
}
