/* SPDX-License-Identifier: Apache-2.0 */
#include "video.h"

#include "content.h"

#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS 5

static struct video {
    char *memory;
    uint64_t pages, rate;
} video;

/* Page after page, each with what it never had before. */
static void *work(void *opaque) {
    struct content content = { .seed = 7, .kind = CONTENT_TEXT };
    uint64_t left = 0;
    (void)opaque;
    for (;;) {
        nanosleep(&(struct timespec){ .tv_nsec = STEP_MS * 1000000 }, NULL);
        left += video.rate * STEP_MS / 1000;
        for (; left >= CONTENT_SIZE / 1024; left -= CONTENT_SIZE / 1024) {
            content_fill(video.memory + content.place * CONTENT_SIZE, &content);
            content.place = (content.place + 1) % video.pages;
            content.body += content.place == 0;
        }
    }
    return NULL;
}

/* The first region of the first display controller. */
static int find_card(char *path, size_t size) {
    glob_t found;
    int result = -1;
    if (glob("/sys/bus/pci/devices/*/class", 0, NULL, &found) != 0) {
        return -1;
    }
    for (size_t i = 0; i < found.gl_pathc && result < 0; i++) {
        unsigned class = 0;
        FILE *file = fopen(found.gl_pathv[i], "r");
        if (file != NULL && fscanf(file, "%x", &class) == 1 && class >> 16 == 3) {
            snprintf(path, size, "%.*s/resource0", (int)(strlen(found.gl_pathv[i]) - strlen("/class")),
                     found.gl_pathv[i]);
            result = 0;
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    globfree(&found);
    return result;
}

int video_start(const struct settings *settings) {
    char path[256];
    struct stat st;
    pthread_t thread;
    int fd = find_card(path, sizeof(path)) == 0 ? open(path, O_RDWR) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < CONTENT_SIZE) {
        return -1;
    }
    video.memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    video.pages = (uint64_t)st.st_size / CONTENT_SIZE;
    video.rate = settings->video;
    return video.memory != MAP_FAILED && pthread_create(&thread, NULL, work, NULL) == 0 ? 0 : -1;
}
