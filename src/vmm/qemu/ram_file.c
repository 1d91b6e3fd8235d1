/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A RAM back end that is a named file, mapped shared: from its name to the file and to where the process has it mapped.
 *
 *   QOM /objects/ID  ──mem-path──►  file (device, inode)  ◄──  /proc/PID/maps: ranges
 *
 * mem-path is a file, or a directory in which QEMU made and unlinked "qemu_back_mem.NAME.XXXXXX". One back end may have
 * several mappings (NUMA policies split it), and all of them are listed: a write through any of them is a write.
 */
#include "vmm/qemu/ram_kinds.h"

#include "base/cleanup.h"

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

static bool is_of_file(const struct mapping *m, dev_t device, ino_t inode) {
    return m->shared && m->readable && m->device == device && m->inode == inode;
}

/* Finds one mapping of the back end's file, and sees that no other file could be it too. */
static int find_first(struct qemu *q, const struct vmm_ram *ram, const struct wanted_file *f,
                      const struct mapping *maps, size_t count, const struct mapping **first, struct error *err) {
    *first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!is_mapping_of(&maps[i], f, ram->id)) {
            continue;
        }
        if (*first != NULL && !is_of_file(&maps[i], (*first)->device, (*first)->inode)) {
            return error_set(err, ERROR_REFUSED, "%s and %s both look like the file of the RAM back end %s",
                             (*first)->path, maps[i].path, ram->id);
        }
        *first = *first == NULL ? &maps[i] : *first;
    }
    if (*first == NULL) {
        return error_set(err, ERROR_REFUSED,
                         "process %d does not map %s of the RAM back end %s: if it is not the QEMU behind this QMP "
                         "socket, pass --pid",
                         (int)q->vmm.pid, f->mem_path, ram->id);
    }
    return 0;
}

int ram_page_size(struct vmm_ram *ram, int fd, struct error *err) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at the file of the RAM back end %s", ram->id);
    }
    ram->hugetlb = (uint64_t)fs.f_type == HUGETLBFS_MAGIC;
    ram->page_size = ram->hugetlb ? (uint64_t)fs.f_bsize : 4096;
    if (ram->page_size == 0 || ram->size % ram->page_size != 0) {
        return error_set(err, ERROR_REFUSED, "the size of the RAM back end %s is no multiple of its page size",
                         ram->id);
    }
    return 0;
}

/* Files of other systems may have no page cache of their own, or pages that come and go by themselves. */
static int check_file_system(const struct vmm_ram *ram, const char *path, int fd, struct error *err) {
    static const uint64_t known[] = { TMPFS_MAGIC, HUGETLBFS_MAGIC, EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC };
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at the file of the RAM back end %s", ram->id);
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if ((uint64_t)fs.f_type == known[i]) {
            return 0;
        }
    }
    return error_set(err, ERROR_REFUSED,
                     "the RAM back end %s is on a file system that is none of tmpfs, hugetlbfs, ext4 and xfs (%s)",
                     ram->id, path);
}

/* Sees what the file is, by a descriptor that cannot read or write it yet; takes its page size from the file system. */
static int look_at_file(struct vmm_ram *ram, const char *path, int handle, struct error *err) {
    struct stat st;
    if (fstat(handle, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at the file of the RAM back end %s", ram->id);
    }
    if (check_file_system(ram, path, handle, err) < 0 || ram_page_size(ram, handle, err) < 0) {
        return -1;
    }
    if (!S_ISREG(st.st_mode) || st.st_dev != ram->device || st.st_ino != ram->inode || st.st_size < 0 ||
        (uint64_t)st.st_size < ram->size) {
        return error_set(err, ERROR_REFUSED, "%s is not the file of the RAM back end %s, or too short", path, ram->id);
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

int ram_check_other_mapper(struct qemu *q, const struct vmm_ram *ram, struct error *err) {
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
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        if (&q->vmm.ram[i] != ram && q->vmm.ram[i].kind == VMM_RAM_FILE && q->vmm.ram[i].device == ram->device &&
            q->vmm.ram[i].inode == ram->inode) {
            return error_set(err, ERROR_REFUSED, "the RAM back ends %s and %s share one file: give each its own",
                             q->vmm.ram[i].id, ram->id);
        }
    }
    return ram_check_other_mapper(q, ram, err);
}

int ram_take_file(struct qemu *q, struct vmm_ram *ram, const struct mapping *first, const struct mapping *maps,
                  size_t count, struct error *err) {
    ram->kind = VMM_RAM_FILE;
    ram->device = first->device;
    ram->inode = first->inode;
    for (size_t i = 0; i < count; i++) {
        if (is_of_file(&maps[i], ram->device, ram->inode) && add_range(ram, &maps[i], err) < 0) {
            return -1;
        }
    }
    return check_covered(ram, q->vmm.pid, err) < 0 || open_file(q, ram, first, err) < 0 ? -1
                                                                                        : check_others(q, ram, err);
}

int ram_take_named(struct qemu *q, struct vmm_ram *ram, const char *mem_path, const struct mapping *maps, size_t count,
                   struct error *err) {
    struct wanted_file f = { 0 };
    const struct mapping *first;
    snprintf(f.mem_path, sizeof(f.mem_path), "%s", mem_path);
    look_up(q->vmm.pid, &f);
    ram->skipped = true;
    return find_first(q, ram, &f, maps, count, &first, err) < 0 ? -1 : ram_take_file(q, ram, first, maps, count, err);
}

bool ram_has_same_ranges(const struct vmm_ram *ram, const struct mapping *maps, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mapping *m = &maps[i];
        if (!is_of_file(m, ram->device, ram->inode)) {
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
