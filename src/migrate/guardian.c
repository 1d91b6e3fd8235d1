/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/guardian.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Waits until the engine is done or dead; true when it died. */
static bool engine_died(int pipe_end) {
    char word;
    ssize_t n;
    do {
        n = read(pipe_end, &word, 1);
    } while (n < 0 && errno == EINTR);
    return n != 1;
}

#define UNDO_PATIENCE (3600 * CLOCK_S)
#define UNDO_PAUSE CLOCK_S

/* A VMM that hangs (in a drain of a dead disk) may answer again; patience costs nobody anything here. */
static int undo_patiently(struct vmm *vmm, bool resume, struct error *err) {
    int64_t deadline = clock_now() + UNDO_PATIENCE;
    while (vmm->ops->undo(vmm, resume, err) < 0) {
        bool gone = vmm->pid > 0 && process_has_ended(vmm->pid);
        if (gone || clock_now() > deadline) {
            return -1;
        }
        error_clear(err);
        clock_sleep(UNDO_PAUSE);
    }
    return 0;
}

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

static void undo_note(const struct guardian_note *note) {
    char line[sizeof(note->before)];
    bool known = read_line(note->path, line, sizeof(line)) == 0;
    if (known && strcmp(line, note->before) == 0) {
        return; /* the engine died before its change, or behind its undoing */
    }
    if (known && strcmp(line, note->ours[0]) != 0 && strcmp(line, note->ours[1]) != 0) {
        log_warning("somebody else changed %s meanwhile: it is left so", note->path);
        return;
    }
    /* without an error where what was changed is gone itself */
    if (write_line(note->path, note->before) < 0 && errno != ENOENT && errno != ENODEV) {
        log_error("the engine died, and \"%s\" could not be written back to %s: %s", note->before, note->path,
                  strerror(errno));
    }
}

static void undo_notes(const struct guardian_record *record) {
    unsigned count = atomic_load(&record->note_count);
    for (unsigned i = 0; i < count; i++) {
        if (atomic_load(&record->notes[i].set)) {
            undo_note(&record->notes[i]);
        }
    }
}

static _Noreturn void watch(int pipe_end, struct vmm *vmm, const struct guardian_record *record) {
    prctl(PR_SET_NAME, "godwit guardian");
    setsid(); /* Ctrl-C is for the engine, which then tells us that it is done */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (!engine_died(pipe_end)) {
        undo_notes(record); /* what the engine could not put back itself */
        _exit(0);
    }
    if (atomic_load(&record->has_file)) {
        unlink(record->file);
    }
    log_setup("godwit guardian", LOG_INFO);
    undo_notes(record); /* before the VMM, which may need all its CPU to answer */
    struct error err = { 0 };
    bool resume = !atomic_load(&record->handed_over);
    if (undo_patiently(vmm, resume, &err) < 0) {
        log_error("the engine died, and what it had changed could not be put back: %s", err.desc);
        _exit(1);
    }
    log_warning("the engine died; %s", resume ? "the guest runs on at the source as before"
                                              : "the guest was handed over and stays paused at the source");
    _exit(0);
}

int guardian_start(struct guardian *g, struct vmm *vmm, struct error *err) {
    *g = (struct guardian){ .pipe = -1 };
    g->record = mmap(NULL, sizeof(*g->record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    if (g->record == MAP_FAILED) {
        g->record = NULL;
    }
    if (g->record == NULL || pipe2(ends, O_CLOEXEC) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot set up the guardian");
    }
    g->pid = fork();
    if (g->pid < 0) {
        close(ends[0]);
        close(ends[1]);
        g->pid = 0;
        return error_errno(err, ERROR_SYSTEM, "cannot fork the guardian");
    }
    if (g->pid == 0) {
        close(ends[1]);
        watch(ends[0], vmm, g->record);
    }
    close(ends[0]);
    g->pipe = ends[1];
    return 0;
}

void guardian_hand_over(struct guardian *g) {
    if (g->record != NULL) {
        atomic_store(&g->record->handed_over, true);
    }
}

void guardian_note_file(struct guardian *g, const char *path) {
    if (g->record != NULL && strlen(path) < sizeof(g->record->file)) {
        memcpy(g->record->file, path, strlen(path) + 1);
        atomic_store(&g->record->has_file, true);
    }
}

/* The place of the path, a new one if it has none; NULL when all are taken. */
static struct guardian_note *find_note(struct guardian_record *record, const char *path) {
    unsigned count = atomic_load(&record->note_count);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(record->notes[i].path, path) == 0) {
            return &record->notes[i];
        }
    }
    if (count == GUARDIAN_NOTES) {
        return NULL;
    }
    struct guardian_note *note = &record->notes[count];
    memcpy(note->path, path, strlen(path) + 1);
    atomic_store(&record->note_count, count + 1);
    return note;
}

/* The guardian reads only when we are dead, whenever that is: what it goes by while this writes stays as it is. */
static void take_note(struct guardian_note *note, const char *before, const char *ours) {
    if (!atomic_load(&note->set)) {
        memcpy(note->before, before, strlen(before) + 1);
        memcpy(note->ours[note->latest], before, strlen(before) + 1);
    }
    note->latest = !note->latest;
    memcpy(note->ours[note->latest], ours, strlen(ours) + 1);
    atomic_store(&note->set, true);
}

int guardian_note_text(void *guardian, const char *path, const char *before, const char *ours, struct error *err) {
    const struct guardian *g = guardian;
    struct guardian_note *note = NULL;
    if (g->record == NULL) {
        return error_set(err, ERROR_REFUSED, "there is no guardian that could write %s back", path);
    }
    if (strlen(path) >= sizeof(note->path) || (before != NULL && strlen(before) >= sizeof(note->before)) ||
        (ours != NULL && strlen(ours) >= sizeof(note->ours[0]))) {
        return error_set(err, ERROR_REFUSED, "the guardian cannot write %s back: it is too long", path);
    }
    note = find_note(g->record, path);
    if (note == NULL) {
        return error_set(err, ERROR_REFUSED, "the guardian cannot write %s back: %u files are the most", path,
                         GUARDIAN_NOTES);
    }
    if (before != NULL && ours != NULL) {
        take_note(note, before, ours);
    } else {
        atomic_store(&note->set, false);
    }
    return 0;
}

pid_t guardian_leave(struct guardian *g) {
    pid_t pid = g->pid;
    if (pid > 0) {
        close(g->pipe);
        munmap(g->record, sizeof(*g->record));
        *g = (struct guardian){ .pipe = -1 };
    }
    return pid;
}

void guardian_dismiss(struct guardian *g) {
    if (g->pid <= 0) {
        return;
    }
    if (write(g->pipe, "d", 1) < 0) {
        log_warning("the guardian is gone already");
    }
    close(g->pipe);
    int status;
    while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR) {
    }
    munmap(g->record, sizeof(*g->record));
    *g = (struct guardian){ .pipe = -1 };
}
