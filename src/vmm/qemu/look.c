/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/look.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/heap.h"
#include "vmm/qemu/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- by name ---- */

static const char objects[] = "/objects/";

/* "ID", "/objects/ID", or "DEVICE/ID" of what belongs to a device (virtio-mem). "/rom@..." is none of these. */
static const char *backend_id(const struct ramblock *b) {
    if (strncmp(b->id, objects, sizeof(objects) - 1) == 0) {
        return b->id + sizeof(objects) - 1;
    }
    const char *slash = b->id[0] != '/' ? strrchr(b->id, '/') : NULL;
    return slash != NULL ? slash + 1 : b->id;
}

bool look_is_named(const struct ramblock *b, const char *id) {
    return strcmp(b->id, id) == 0 || strcmp(backend_id(b), id) == 0;
}

const struct ramblock *look_backend(const struct look *l, const char *id) {
    const struct ramblock *found = NULL;
    for (size_t i = 0; i < l->count; i++) {
        const struct ramblock *b = &l->blocks[i];
        if (b->used != 0 && strcmp(b->id, id) == 0) {
            return b;
        }
        found = found == NULL && b->used != 0 && look_is_named(b, id) ? b : found;
    }
    return found;
}

/* ---- what is mapped there ---- */

static enum look_span span_of(const struct mapping *m) {
    if (!m->readable || !m->writable) {
        return LOOK_NOTHING;
    }
    return m->shared ? LOOK_SHARED_FILE : m->inode != 0 ? LOOK_PRIVATE_FILE : LOOK_ANONYMOUS;
}

/* Whether `next` goes on where `m` ends: policies of NUMA nodes and advice split what was mapped at once. */
static bool goes_on(const struct mapping *m, const struct mapping *next) {
    return next->start == m->end && span_of(next) == span_of(m) && next->device == m->device &&
           next->inode == m->inode && (m->inode == 0 || next->offset == m->offset + (m->end - m->start));
}

enum look_span look_at(const struct look *l, uint64_t start, uint64_t size, const struct mapping **first) {
    size_t i = 0;
    *first = NULL;
    while (i < l->map_count && l->maps[i].end <= start) {
        i++;
    }
    if (i == l->map_count || l->maps[i].start > start || size > UINT64_MAX - start) {
        return LOOK_NOTHING;
    }
    const struct mapping *m = *first = &l->maps[i];
    if (m->inode != 0 && !m->shared && (m->offset != 0 || m->start != start)) {
        return LOOK_NOTHING; /* it does not begin where its file does */
    }
    while (l->maps[i].end < start + size) {
        if (i + 1 == l->map_count || !goes_on(&l->maps[i], &l->maps[i + 1])) {
            return LOOK_NOTHING;
        }
        i++;
    }
    return span_of(m);
}

/* ---- whether the addresses are right ---- */

/* Whether the block is listed where the file of the back end of its name is mapped from its beginning. */
static bool is_where_it_is(const struct ramblock *b, const struct vmm_ram *r) {
    for (size_t k = 0; k < r->range_count; k++) {
        if (r->ranges[k].offset == 0 && r->ranges[k].start == b->host) {
            return b->used == r->size;
        }
    }
    return false;
}

/* Somewhere in the first stretch of the guest's RAM, which on a PC begins at 0: no ROM and no window lies over it. */
#define ANCHOR UINT64_C(0x100000)

/* "Host virtual address for 0x100000 (pc.ram) is 0x7f58fbf00000" */
static bool parse_anchor(const char *text, char *name, size_t size, uint64_t *host) {
    const char *open = strchr(text, '('), *is = open != NULL ? strstr(open, ") is 0x") : NULL;
    if (is == NULL || (size_t)(is - open) > size || !isxdigit((unsigned char)is[7])) {
        return false;
    }
    memcpy(name, open + 1, (size_t)(is - open) - 1);
    name[is - open - 1] = '\0';
    char *end;
    errno = 0;
    *host = strtoull(is + 7, &end, 16);
    return errno == 0 && (*end == '\0' || isspace((unsigned char)*end));
}

/* Whether the block that holds the anchor is found where QEMU says that the guest has it. 1, 0; -1: QEMU is gone. */
static int is_anchored(struct qemu *q, const struct look *l, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    char command[48], name[256];
    uint64_t host;
    snprintf(command, sizeof(command), "gpa2hva 0x%" PRIx64, ANCHOR);
    json_t *args = json_pack("{s:s}", "command-line", command);
    if (qmp_execute(q->qmp, "human-monitor-command", args, &answer, QMP_TIMEOUT, err) < 0) {
        if (qmp_refusal(q->qmp)[0] == '\0') {
            return -1;
        }
        error_clear(err);
        return 0;
    }
    const char *text = json_string_value(answer);
    if (text == NULL || !parse_anchor(text, name, sizeof(name), &host)) {
        return 0;
    }
    const struct ramblock *b = look_backend(l, name);
    return b != NULL && b->host != 0 && host - b->host == ANCHOR && ANCHOR < b->used;
}

static int is_proved(struct qemu *q, const struct look *l, struct error *err) {
    size_t proved = 0, files = 0;
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        bool file = r->kind == VMM_RAM_FILE && r->range_count > 0; /* else it is yet to be found */
        const struct ramblock *b = file ? look_backend(l, r->id) : NULL;
        files += file;
        proved += b != NULL && is_where_it_is(b, r);
    }
    return files > 0 ? proved == files : is_anchored(q, l, err);
}

/* ---- what was found, and whether it still is ---- */

int look_remember(struct qemu *q, const struct ramblock *b, struct error *err) {
    struct ramblock *larger = reallocarray(q->known, q->known_count + 1, sizeof(*larger));
    if (larger == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for %s", b->id);
    }
    q->known = larger;
    q->known[q->known_count++] = *b;
    return 0;
}

static struct ramblock *known_as(const struct qemu *q, const char *id) {
    for (size_t i = 0; i < q->known_count; i++) {
        if (look_is_named(&q->known[i], id)) {
            return &q->known[i];
        }
    }
    return NULL;
}

void look_forget(struct qemu *q, const char *id) {
    struct ramblock *b = known_as(q, id);
    if (b != NULL) {
        *b = q->known[--q->known_count];
    }
}

void look_forget_all(struct qemu *q) {
    free(q->known);
    q->known = NULL;
    q->known_count = 0;
}

static bool is_same(const struct ramblock *now, const struct ramblock *then, int memory) {
    return strcmp(now->id, then->id) == 0 && now->offset == then->offset && now->used == then->used &&
           (then->record != 0 ? heap_holds(memory, then) : now->host == then->host);
}

/* Whether the process has there what it had. */
static bool is_same_span(const struct look *l, const struct vmm_ram *r) {
    const struct mapping *first;
    enum look_span span = look_at(l, r->ranges[0].start, r->size, &first);
    return r->origin < 0 ? span == LOOK_ANONYMOUS
                         : span == LOOK_PRIVATE_FILE && first->device == r->device && first->inode == r->inode;
}

static bool is_there(const struct qemu *q, const struct vmm_ram *r, const struct look *l) {
    const struct ramblock *then = known_as(q, r->id);
    for (size_t i = 0; then != NULL && i < l->count; i++) {
        if (is_same(&l->blocks[i], then, r->fd)) {
            return is_same_span(l, r);
        }
    }
    return false;
}

static int check_list(const struct qemu *q, const struct vmm_ram *ram, size_t count, const struct look *l,
                      struct error *err) {
    for (size_t i = 0; i < count; i++) {
        if (ram[i].kind == VMM_RAM_MEMORY && !is_there(q, &ram[i], l)) {
            return error_set(err, ERROR_REFUSED, "QEMU has its %sRAM %s in another place or size meanwhile",
                             ram[i].guest ? "guest's " : "own ", ram[i].id);
        }
    }
    return 0;
}

int qemu_check_memory(struct qemu *q, struct error *err) {
    struct look l CLEANUP_LOOK = LOOK_CLOSED;
    if (q->known_count == 0) {
        return 0;
    }
    if (look_list(q, &l, err) < 0) {
        return -1;
    }
    if (check_list(q, q->vmm.ram, q->vmm.ram_count, &l, err) < 0) {
        return -1;
    }
    return check_list(q, q->save.left, q->save.left_count, &l, err);
}

/* ---- the look ---- */

static int open_memory(const struct qemu *q) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)q->vmm.pid);
    int fd = open(path, (q->side == VMM_SOURCE ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) {
        log_info("cannot open %s: %s", path, strerror(errno));
    }
    return fd;
}

static bool are_told(const struct look *l) {
    for (size_t i = 0; i < l->count; i++) {
        if (l->blocks[i].host != 0) {
            return true;
        }
    }
    return false;
}

static void forget(struct look *l) {
    for (size_t i = 0; i < l->count; i++) {
        l->blocks[i].host = l->blocks[i].record = 0;
    }
}

int look_list(struct qemu *q, struct look *l, struct error *err) {
    return ramblock_list(q->qmp, &l->blocks, &l->count, err) < 0 ||
                   process_mappings(q->vmm.pid, &l->maps, &l->map_count, err) < 0
               ? -1
               : 0;
}

/* The process's memory is opened before the question: a QEMU that answers now was alive then, so it is its memory and
 * not that of a process that has its id since. */
int look_open(struct qemu *q, struct look *l, struct error *err) {
    l->memory = open_memory(q);
    if (look_list(q, l, err) < 0) {
        return -1;
    }
    if (l->memory < 0 || l->count == 0) {
        forget(l);
        return 0;
    }
    if (!are_told(l) && heap_find(l->memory, l->maps, l->map_count, l->blocks, l->count, err) < 0) {
        return -1;
    }
    int proved = is_proved(q, l, err);
    l->proved = proved > 0;
    if (!l->proved) {
        forget(l);
    }
    return proved < 0 ? -1 : 0;
}

void look_close(struct look *l) {
    free(l->blocks);
    free(l->maps);
    if (l->memory >= 0) {
        close(l->memory);
    }
    *l = LOOK_CLOSED;
}
