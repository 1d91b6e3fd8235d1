/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void expect_error(struct error *err, enum error_class class, const char *text, const char *what) {
    if (err->class != class || (text != NULL && strstr(err->desc, text) == NULL)) {
        fail_msg("%s: class %s and '%s' expected, got class %s and '%s'", what, error_class_name(class),
                 text ? text : "any text", error_class_name(err->class), err->desc);
    }
    error_clear(err);
}

/* splitmix64 */
uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void random_fill(uint64_t *state, void *to, size_t size) {
    uint8_t *p = to;
    while (size > 0) {
        uint64_t word = random_next(state);
        size_t n = size < sizeof(word) ? size : sizeof(word);
        memcpy(p, &word, n);
        p += n;
        size -= n;
    }
}

void random_text(uint64_t *state, uint8_t *to, size_t size) {
    for (size_t at = 0; at < size; at += 16) {
        size_t n = size - at < 16 ? size - at : 16;
        uint64_t word = random_next(state);
        memset(to + at, (int)(word >> 8 | 1) & 0xff, n);
        if (word % 2 != 0) {
            random_fill(state, to + at, n);
        }
    }
}

void socket_pair(int ends[2], int buffer) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    for (int i = 0; buffer > 0 && i < 2; i++) {
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
        setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    }
}

struct backing *backing_on(int fd, uint64_t size, uint64_t page_size, bool write) {
    struct error err = { 0 };
    struct backing_file file = { .id = "pc.ram", .size = size, .page_size = page_size, .fd = fd, .write = write };
    struct backing *b = backing_open_file(&file, &err);
    assert_ok(b != NULL, &err);
    return b;
}

int tmpfs_file(uint64_t size) {
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

#define HUGE_DIRECTORY "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static long huge_added;
static int huge_lock = -1; /* the same lock as the platform tests': else they would take each other's pages */

static long read_huge(const char *name) {
    char path[96];
    long value = -1;
    snprintf(path, sizeof(path), HUGE_DIRECTORY "%s", name);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%ld", &value) != 1) {
            value = -1;
        }
        fclose(file);
    }
    return value;
}

static void change_huge(long by) {
    FILE *file = fopen(HUGE_DIRECTORY "nr_hugepages", "we");
    if (file != NULL) {
        fprintf(file, "%ld\n", read_huge("nr_hugepages") + by);
        fclose(file);
    }
}

long huge_free(void) {
    return read_huge("free_hugepages");
}

int huge_file(uint64_t pages, unsigned needed) {
    if (huge_lock < 0) {
        huge_lock = open(HUGE_DIRECTORY "nr_hugepages", O_RDONLY | O_CLOEXEC);
        flock(huge_lock, LOCK_EX);
    }
    long before = read_huge("nr_hugepages"), there = huge_free();
    if (before < 0 || there < 0) {
        return -1;
    }
    if (there < (long)needed) {
        change_huge((long)needed - there);
        huge_added += read_huge("nr_hugepages") - before;
    }
    int fd = huge_free() >= (long)needed ? memfd_create("unit", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB) : -1;
    if (fd >= 0) {
        assert_int_equal(ftruncate(fd, (off_t)(pages * HUGE_PAGE)), 0);
    }
    return fd;
}

void huge_release(void) {
    if (huge_added > 0) {
        change_huge(-huge_added);
    }
    huge_added = 0;
    if (huge_lock >= 0) {
        close(huge_lock);
        huge_lock = -1;
    }
}

int scratch_setup(void **state) {
    char *path = strdup("/tmp/godwit-unit-XXXXXX");
    if (path == NULL || mkdtemp(path) == NULL) {
        free(path);
        return -1;
    }
    *state = path;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

int scratch_teardown(void **state) {
    int rc = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return rc;
}

void put_file(const char *root, const char *path, const char *text) {
    char name[512];
    snprintf(name, sizeof(name), "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(name, 0700);
        *slash = '/';
    }
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}
