/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/compose.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/zero.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD_SIZE 8u /* "QEVM" and the version, 3 */
#define BUFFER_SIZE ((size_t)256 << 10)
#define PAGE ((size_t)4096)
#define RECORD_MOST (8 + 1 + sizeof(((struct vmm_ram *)NULL)->id) + PAGE)

enum { END = 0x00, FULL = 0x04, DESCRIPTION = 0x06, CONFIGURATION = 0x07, FOOTER = 0x7e };
/* of the section "ram" */
enum { ZERO = 0x02, SIZES = 0x04, CONTENT = 0x08, LAST = 0x10 };
#define RAM_SECTION 2u /* any number does: the loader compares it with the one in the footer */
#define RAM_VERSION 4u

/* Gathers small pieces for the sink. */
struct pen {
    const struct vmm_sink *sink;
    uint8_t *buffer;
    size_t used;
};

static int flush(struct pen *p, struct error *err) {
    size_t size = p->used;
    p->used = 0;
    return size == 0 ? 0 : p->sink->take(p->sink->opaque, p->buffer, size, err);
}

/* Room for `size` more bytes, at most RECORD_MOST. */
static int make_room(struct pen *p, size_t size, struct error *err) {
    return p->used + size <= BUFFER_SIZE ? 0 : flush(p, err);
}

static void put(struct pen *p, const void *bytes, size_t size) {
    memcpy(p->buffer + p->used, bytes, size);
    p->used += size;
}

static void put_number(struct pen *p, uint64_t n, size_t bytes) {
    for (size_t i = bytes; i-- > 0;) {
        p->buffer[p->used++] = (uint8_t)(n >> (8 * i));
    }
}

/* A length of one byte, and the text. */
static void put_name(struct pen *p, const char *name) {
    put_number(p, strlen(name), 1);
    put(p, name, strlen(name));
}

static void put_configuration(struct pen *p, const char *machine) {
    put_number(p, CONFIGURATION, 1);
    put_number(p, strlen(machine), 4);
    put(p, machine, strlen(machine));
}

static int put_sizes(struct pen *p, const struct compose *c, struct error *err) {
    uint64_t total = 0;
    for (size_t i = 0; i < c->left_count; i++) {
        total += c->left[i].size;
    }
    put_number(p, total | SIZES, 8);
    for (size_t i = 0; i < c->left_count; i++) {
        if (make_room(p, RECORD_MOST, err) < 0) {
            return -1;
        }
        put_name(p, c->left[i].id);
        put_number(p, c->left[i].size, 8);
    }
    return 0;
}

/* Every page names its block: to leave that out would save a few bytes and cost a rule. */
static int put_page(struct pen *p, const char *id, uint64_t at, const uint8_t *page, struct error *err) {
    if (make_room(p, RECORD_MOST, err) < 0) {
        return -1;
    }
    bool zero = is_zero(page, PAGE);
    put_number(p, at | (zero ? ZERO : CONTENT), 8);
    put_name(p, id);
    if (zero) {
        put_number(p, 0, 1);
    } else {
        put(p, page, PAGE);
    }
    return 0;
}

static int put_block(struct pen *p, const struct vmm_ram *r, uint8_t *piece, struct error *err) {
    for (uint64_t at = 0; at < r->size;) {
        size_t size = r->size - at < BUFFER_SIZE ? (size_t)(r->size - at) : BUFFER_SIZE;
        if (io_read_at(r->fd, piece, size, r->ranges[0].start + at) != (ssize_t)size) {
            return error_set(err, ERROR_VMM, "cannot read QEMU's own RAM %s", r->id);
        }
        for (size_t i = 0; i < size; i += PAGE) {
            if (put_page(p, r->id, at + i, piece + i, err) < 0) {
                return -1;
            }
        }
        at += size;
    }
    return 0;
}

static int put_ram(struct pen *p, const struct compose *c, struct error *err) {
    CLEANUP_FREE uint8_t *piece = malloc(BUFFER_SIZE);
    if (piece == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the device state");
    }
    put_number(p, FULL, 1);
    put_number(p, RAM_SECTION, 4);
    put_name(p, "ram");
    put_number(p, 0, 4); /* the instance */
    put_number(p, RAM_VERSION, 4);
    if (put_sizes(p, c, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < c->left_count; i++) {
        if (put_block(p, &c->left[i], piece, err) < 0) {
            return -1;
        }
    }
    if (make_room(p, RECORD_MOST, err) < 0) {
        return -1;
    }
    put_number(p, LAST, 8);
    put_number(p, FOOTER, 1);
    put_number(p, RAM_SECTION, 4);
    return 0;
}

/* Copies [at, end) of what was saved. */
static int put_saved(struct pen *p, int saved, uint64_t at, uint64_t end, struct error *err) {
    while (at < end) {
        if (flush(p, err) < 0) {
            return -1;
        }
        size_t size = end - at < BUFFER_SIZE ? (size_t)(end - at) : BUFFER_SIZE;
        if (io_read_at(saved, p->buffer, size, at) != (ssize_t)size) {
            return error_set(err, ERROR_VMM, "the saved device state became shorter while it was read");
        }
        p->used = size;
        at += size;
    }
    return 0;
}

/* Where it is cut must be what is expected there. */
static int check_saved(int saved, uint64_t *size, struct error *err) {
    static const uint8_t magic[HEAD_SIZE] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };
    uint8_t head[HEAD_SIZE], last;
    struct stat st;
    if (fstat(saved, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot look at the saved device state");
    }
    *size = (uint64_t)st.st_size;
    if (*size <= HEAD_SIZE || *size > COMPOSE_SAVED_MAX) {
        return error_set(err, ERROR_VMM, "QEMU has saved %" PRIu64 " bytes of device state, which makes no sense",
                         *size);
    }
    if (io_read_at(saved, head, HEAD_SIZE, 0) != HEAD_SIZE || io_read_at(saved, &last, 1, *size - 1) != 1 ||
        memcmp(head, magic, HEAD_SIZE) != 0 || last != END) {
        return error_set(err, ERROR_VMM, "what QEMU has saved is no device state as it is known here");
    }
    return 0;
}

int compose(const struct compose *c, const struct vmm_sink *sink, struct error *err) {
    CLEANUP_FREE uint8_t *buffer = malloc(BUFFER_SIZE);
    struct pen pen = { .sink = sink, .buffer = buffer };
    uint64_t size;
    if (buffer == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the device state");
    }
    if (check_saved(c->saved, &size, err) < 0 || put_saved(&pen, c->saved, 0, HEAD_SIZE, err) < 0) {
        return -1;
    }
    put_configuration(&pen, c->machine);
    if ((c->left_count > 0 && put_ram(&pen, c, err) < 0) || put_saved(&pen, c->saved, HEAD_SIZE, size, err) < 0 ||
        make_room(&pen, RECORD_MOST, err) < 0) {
        return -1;
    }
    put_number(&pen, DESCRIPTION, 1);
    put_number(&pen, 0, 4);
    return flush(&pen, err);
}
