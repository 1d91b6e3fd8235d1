/* SPDX-License-Identifier: Apache-2.0 */
#include "host/waiting.h"

#include "host/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS_MOST 4096

/* "ran waited slices", all since the thread began. */
static int read_waited(const char *root, pid_t pid, pid_t tid, struct host_text *text, uint64_t *waited) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
    int fd = host_open(root, path);
    if (fd < 0) {
        return -1;
    }
    const char *words = host_read(fd, text);
    host_close(&fd);
    unsigned long long ran, wait;
    if (words == NULL || sscanf(words, "%llu %llu", &ran, &wait) != 2) {
        return -1;
    }
    *waited = wait;
    return 0;
}

static const struct waiting_thread *find(const struct host_waiting *w, pid_t tid) {
    for (size_t i = 0; i < w->count; i++) {
        if (w->threads[i].tid == tid) {
            return &w->threads[i];
        }
    }
    return NULL;
}

/* Reads all threads into `now`; returns the largest growth since `before`. */
static uint64_t read_threads(const char *root, pid_t pid, DIR *dir, const struct host_waiting *before,
                             struct host_waiting *now) {
    uint64_t most = 0;
    struct host_text text = { 0 }; /* one for all of them */
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && now->count < THREADS_MOST) {
        struct waiting_thread t = { .tid = (pid_t)strtol(entry->d_name, NULL, 10) };
        if (t.tid <= 0 || read_waited(root, pid, t.tid, &text, &t.waited) < 0) {
            continue;
        }
        struct waiting_thread *more = realloc(now->threads, (now->count + 1) * sizeof(t));
        if (more == NULL) {
            break;
        }
        now->threads = more;
        now->threads[now->count++] = t;
        const struct waiting_thread *last = find(before, t.tid);
        uint64_t growth = last != NULL && t.waited > last->waited ? t.waited - last->waited : 0;
        most = growth > most ? growth : most;
    }
    host_text_free(&text);
    return most;
}

double host_waiting_sample(struct host_waiting *w, const char *root, pid_t pid, int64_t now) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/proc/%d/task", root, (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return -1;
    }
    struct host_waiting next = { .at = now };
    uint64_t most = read_threads(root, pid, dir, w, &next);
    closedir(dir);
    double percent = w->count > 0 && now > w->at ? 100.0 * (double)most / (double)(now - w->at) : -1;
    host_waiting_free(w);
    *w = next;
    return percent;
}

void host_waiting_free(struct host_waiting *w) {
    free(w->threads);
    *w = (struct host_waiting){ 0 };
}
