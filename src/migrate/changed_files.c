/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/changed_files.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The payload of LEDGER_TEXT. */
struct changed {
    char path[256]; /* kept when it is not set any more: its place is for the same path */
    char before[64];
    char ours[2][64]; /* what it holds since the last change, or since the one before if that never came */
    uint32_t latest;  /* which of them was noted last */
};

/* The payload of LEDGER_FILE. */
struct made {
    char path[256];
};

/* One line, without its end. */
static int read_line(const char *path, char *line, size_t size) {
    int fd CLEANUP_CLOSE = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, size - 1) : -1;
    if (n < 0) {
        return -1;
    }
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

static int write_line(const char *path, const char *line) {
    int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    return fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line) ? 0 : -1;
}

static void put_back(const struct changed *c) {
    char line[sizeof(c->before)];
    bool known = read_line(c->path, line, sizeof(line)) == 0;
    if (known && strcmp(line, c->before) == 0) {
        return; /* the engine died before its change, or behind its undoing */
    }
    if (known && strcmp(line, c->ours[0]) != 0 && strcmp(line, c->ours[1]) != 0) {
        log_warning("somebody else changed %s meanwhile: it is left so", c->path);
        return;
    }
    /* without an error where what was changed is gone itself */
    if (write_line(c->path, c->before) < 0 && errno != ENOENT && errno != ENODEV) {
        log_error("\"%s\" could not be written back to %s: %s", c->before, c->path, strerror(errno));
    }
}

/* All strings end: they may come from a file. */
static bool is_whole(const struct changed *c) {
    return memchr(c->path, '\0', sizeof(c->path)) != NULL && memchr(c->before, '\0', sizeof(c->before)) != NULL &&
           memchr(c->ours[0], '\0', sizeof(c->ours[0])) != NULL && memchr(c->ours[1], '\0', sizeof(c->ours[1])) != NULL;
}

void changed_files_put_back(struct ledger *l, bool engine_died) {
    struct made *m = NULL;
    while ((m = ledger_next(l, LEDGER_FILE, sizeof(*m), m)) != NULL) {
        if (engine_died && ledger_is_set(m) && memchr(m->path, '\0', sizeof(m->path)) != NULL) {
            unlink(m->path);
        }
        ledger_set(m, false);
    }
    struct changed *c = NULL;
    while ((c = ledger_next(l, LEDGER_TEXT, sizeof(*c), c)) != NULL) {
        if (ledger_is_set(c) && is_whole(c)) {
            put_back(c);
        }
        ledger_set(c, false);
    }
}

void changed_file_made(struct ledger *l, const char *path) {
    struct error ignored = { 0 };
    struct made *m = strlen(path) < sizeof(m->path) ? ledger_add(l, LEDGER_FILE, sizeof(*m), &ignored) : NULL;
    if (m != NULL) {
        memcpy(m->path, path, strlen(path) + 1);
        ledger_set(m, true);
    }
}

/* The place of the path, a new one if it has none; NULL when all are taken. */
static struct changed *find(struct ledger *l, const char *path, struct error *err) {
    struct changed *c = NULL;
    unsigned count = 0;
    while ((c = ledger_next(l, LEDGER_TEXT, sizeof(*c), c)) != NULL) {
        if (strcmp(c->path, path) == 0) {
            return c;
        }
        count++;
    }
    if (count >= CHANGED_FILES_MOST) {
        error_set(err, ERROR_REFUSED, "the guardian cannot write %s back: %u files are the most", path,
                  CHANGED_FILES_MOST);
        return NULL;
    }
    c = ledger_add(l, LEDGER_TEXT, sizeof(*c), err);
    if (c != NULL) {
        memcpy(c->path, path, strlen(path) + 1);
    }
    return c;
}

/* It is read only when we are dead, whenever that is: what counts while this writes stays as it is. */
static void stand(struct changed *c, const char *before, const char *ours) {
    if (!ledger_is_set(c)) {
        memcpy(c->before, before, strlen(before) + 1);
        memcpy(c->ours[c->latest], before, strlen(before) + 1);
    }
    c->latest = !c->latest;
    memcpy(c->ours[c->latest], ours, strlen(ours) + 1);
    ledger_set(c, true);
}

int changed_file_note(struct ledger *l, const char *path, const char *before, const char *ours, struct error *err) {
    struct changed *c = NULL;
    if (strlen(path) >= sizeof(c->path) || (before != NULL && strlen(before) >= sizeof(c->before)) ||
        (ours != NULL && strlen(ours) >= sizeof(c->ours[0]))) {
        return error_set(err, ERROR_REFUSED, "the guardian cannot write %s back: it is too long", path);
    }
    c = find(l, path, err);
    if (c == NULL) {
        return -1;
    }
    if (before != NULL && ours != NULL) {
        stand(c, before, ours);
    } else {
        ledger_set(c, false);
    }
    return 0;
}
