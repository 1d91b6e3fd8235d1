/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a ledger. Its directory belongs to us alone (0700), and so does the file (0600): what is found there
 * and is not like that is not used. All of its blocks are allocated when it is made, so that a full disk is known
 * before anything is changed, and a store into the mapping can't fail later.
 *
 * Made under its lock: open, lock, and look whether it is still the one that has this name, for whoever gives a ledger
 * up removes its file with the lock held.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "host/process.h"
#include "ledger/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY "/run/godwit"
#define OPEN_TRIES 100

static const char *directory_path(void) {
    const char *path = getenv("GODWIT_RUN");
    return path != NULL && path[0] != '\0' ? path : DIRECTORY;
}

static int open_directory(const char *path, struct error *err) {
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return error_errno(err, ERROR_SYSTEM,
                           "cannot make the directory %s for ledgers (root can; GODWIT_RUN names another)", path);
    }
    int fd CLEANUP_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot open the directory of ledgers %s", path);
    }
    if (s.st_uid != geteuid() || (s.st_mode & 077) != 0) {
        return error_set(err, ERROR_REFUSED,
                         "the directory of ledgers %s is open to others (owner %u, mode %03o): it must belong to user "
                         "%u alone (mode 700)",
                         path, (unsigned)s.st_uid, (unsigned)s.st_mode & 0777, (unsigned)geteuid());
    }
    return take_fd(&fd);
}

/* 1: locked; 0: it was removed meanwhile; -1. */
static int lock_file(const struct ledger *l, pid_t pid, struct error *err) {
    struct stat ours, named;
    if (flock(l->fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK
                   ? error_set(err, ERROR_REFUSED, "another godwit works on this guest (QEMU process %d)", (int)pid)
                   : error_errno(err, ERROR_SYSTEM, "cannot lock %s", l->path);
    }
    if (fstat(l->fd, &ours) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at %s", l->path);
    }
    if (fstatat(l->directory, l->name, &named, AT_SYMLINK_NOFOLLOW) < 0 || named.st_ino != ours.st_ino ||
        named.st_dev != ours.st_dev) {
        return 0;
    }
    if (!S_ISREG(ours.st_mode) || ours.st_uid != geteuid() || (ours.st_mode & 077) != 0 || ours.st_nlink != 1) {
        return error_set(err, ERROR_REFUSED,
                         "%s is no ledger of ours (owner %u, mode %06o, %u names): look who made it, and remove it",
                         l->path, (unsigned)ours.st_uid, (unsigned)ours.st_mode, (unsigned)ours.st_nlink);
    }
    return 1;
}

static int open_locked(struct ledger *l, pid_t pid, struct error *err) {
    for (int i = 0; i < OPEN_TRIES; i++) {
        l->fd = openat(l->directory, l->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (l->fd < 0) {
            return error_errno(err, ERROR_SYSTEM, "cannot open the ledger %s", l->path);
        }
        int locked = lock_file(l, pid, err);
        if (locked != 0) {
            return locked < 0 ? -1 : 0;
        }
        close(l->fd);
        l->fd = -1;
    }
    return error_set(err, ERROR_SYSTEM, "the ledger %s is removed again and again: by whom?", l->path);
}

static uint64_t pid_namespace(void) {
    struct stat s;
    return stat("/proc/self/ns/pid", &s) == 0 ? (uint64_t)s.st_ino : 0;
}

/* "" when the kernel does not tell: then all boots are one. */
static void read_boot_id(char *id, size_t size) {
    int fd CLEANUP_CLOSE = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, size - 1) : -1;
    id[n > 0 ? n : 0] = '\0';
    id[strcspn(id, "\n")] = '\0';
}

static int is_damaged(const struct ledger *l, struct error *err) {
    return error_set(err, ERROR_REFUSED,
                     "the ledger %s is damaged: put the guest in order by hand ('query-migrate-capabilities', "
                     "'query-migrate', 'query-status' on its monitor), then remove the file",
                     l->path);
}

/* A file that is too short holds nothing only when its maker was killed before it wrote anything. */
static int check_size(const struct ledger *l, off_t size, struct error *err) {
    char magic[8] = "", none[8] = "";
    if (size == 0 || size >= (off_t)LEDGER_SIZE ||
        (pread(l->fd, magic, sizeof(magic), 0) >= 0 && memcmp(magic, none, sizeof(none)) == 0)) {
        return 0;
    }
    return is_damaged(l, err);
}

/* Whether the file holds a record: 1 yes, 0 nothing that anybody has recorded in this boot, -1 something else. */
static int check_found(const struct ledger *l, pid_t pid, uint64_t start, struct error *err) {
    const struct record *r = l->record;
    char boot[sizeof(r->boot)];
    static const char none[sizeof(r->magic)];
    if (memcmp(r->magic, none, sizeof(none)) == 0) {
        return 0;
    }
    if (memcmp(r->magic, LEDGER_MAGIC, sizeof(r->magic)) != 0) {
        return error_set(err, ERROR_REFUSED, "%s is no ledger: look what it is, and remove it", l->path);
    }
    if (r->version != LEDGER_VERSION) {
        return error_set(err, ERROR_REFUSED,
                         "the ledger %s was written by another version of godwit (version %u of ledgers, this one "
                         "reads %d): 'godwit resolve' of that version puts the guest in order, then it is gone",
                         l->path, (unsigned)r->version, LEDGER_VERSION);
    }
    read_boot_id(boot, sizeof(boot));
    if (strncmp(r->boot, boot, sizeof(boot)) != 0) {
        return 0;
    }
    if (r->size != LEDGER_SIZE || r->pid != pid || r->start != start || r->side > LEDGER_AT_DESTINATION ||
        atomic_load(&r->owner) > LEDGER_DESTINATION || !entries_are_whole(r)) {
        return is_damaged(l, err);
    }
    return atomic_load(&r->begun) != 0;
}

static void make_record(struct record *r, pid_t pid, uint64_t start) {
    memset(r, 0, sizeof(*r));
    r->version = LEDGER_VERSION;
    r->size = (uint32_t)LEDGER_SIZE;
    r->pid = pid;
    r->start = start;
    r->pid_namespace = pid_namespace();
    read_boot_id(r->boot, sizeof(r->boot));
    atomic_store(&r->used, HEAD_SIZE);
    atomic_store(&r->beat, clock_now());
    atomic_signal_fence(memory_order_release); /* whoever reads it after our death sees the magic last */
    memcpy(r->magic, LEDGER_MAGIC, sizeof(r->magic));
}

static int map_record(struct ledger *l, pid_t pid, uint64_t start, struct error *err) {
    struct stat s;
    if (fstat(l->fd, &s) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at %s", l->path);
    }
    if (check_size(l, s.st_size, err) < 0) {
        return -1;
    }
    errno = posix_fallocate(l->fd, 0, (off_t)LEDGER_SIZE);
    if (errno != 0) {
        bool new = s.st_size == 0;
        error_errno(err, ERROR_SYSTEM, "no room for the ledger %s", l->path);
        if (new) {
            unlinkat(l->directory, l->name, 0);
        }
        return -1;
    }
    void *memory = mmap(NULL, LEDGER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
    if (memory == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "cannot map the ledger %s", l->path);
    }
    l->record = memory;
    int found = check_found(l, pid, start, err);
    if (found == 0) {
        make_record(l->record, pid, start);
        return fsync(l->directory) < 0 || fsync(l->fd) < 0
                   ? error_errno(err, ERROR_SYSTEM, "cannot write the ledger %s", l->path)
                   : 0;
    }
    l->left = found > 0;
    return found < 0 ? -1 : 0;
}

/* Records of VMMs that have ended say nothing to anybody. Those of other process namespaces cannot be judged. */
static void sweep_one(int directory, const char *name) {
    int pid, length = 0;
    uint64_t start, is = 0;
    struct error ignored = { 0 };
    struct record head = { 0 };
    if (sscanf(name, "%d-%" SCNu64 "%n", &pid, &start, &length) != 2 || name[length] != '\0' || pid <= 0) {
        return;
    }
    if (process_start_time(pid, &is, &ignored) == 0 ? is == start : !process_has_ended(pid)) {
        return;
    }
    int fd CLEANUP_CLOSE = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return;
    }
    bool ours = pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
                memcmp(head.magic, LEDGER_MAGIC, sizeof(head.magic)) == 0 && head.pid_namespace == pid_namespace();
    if (ours) {
        unlinkat(directory, name, 0);
    }
}

static void sweep(int directory) {
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (list == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return;
    }
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        sweep_one(directory, entry->d_name);
    }
    closedir(list);
}

int file_open(struct ledger *l, pid_t pid, uint64_t start, struct error *err) {
    const char *path = directory_path();
    l->directory = open_directory(path, err);
    if (l->directory < 0) {
        return -1;
    }
    snprintf(l->name, sizeof(l->name), "%d-%" PRIu64, (int)pid, start);
    snprintf(l->path, sizeof(l->path), "%.200s/%s", path, l->name);
    sweep(l->directory);
    return open_locked(l, pid, err) < 0 ? -1 : map_record(l, pid, start, err);
}

int file_sync(struct ledger *l, const char *what, struct error *err) {
    if (fault_planned("ledger-full", what)) {
        errno = ENOSPC;
        return error_errno(err, ERROR_SYSTEM, "cannot write the ledger %s", l->path);
    }
    if (l->fd >= 0 && fdatasync(l->fd) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot write the ledger %s", l->path);
    }
    return 0;
}

/* Two processes of ours may come here one after the other; by then the name may be somebody else's. */
void file_remove(struct ledger *l) {
    struct stat ours, named;
    if (fstat(l->fd, &ours) == 0 && fstatat(l->directory, l->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        named.st_ino == ours.st_ino && named.st_dev == ours.st_dev) {
        unlinkat(l->directory, l->name, 0);
    }
}
