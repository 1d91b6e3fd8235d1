/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload of a test guest: memory and disk that prove themselves, and a pulse that is seen from outside.
 *
 * On the serial console: "ready" once the memory is filled, then every gw.tick ms
 *     tick SEQ UPTIME_MS DIRTIED CHECKED DISK_OPS ERRORS
 * and "ERROR ..." for everything that is not as it was written.
 */
#include "content.h"
#include "disk.h"
#include "memory.h"
#include "report.h"
#include "settings.h"
#include "video.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static void tick(uint64_t seq) {
    report_line("tick %llu %llu %llu %llu %llu %llu", (unsigned long long)seq, (unsigned long long)report_uptime(),
                (unsigned long long)report.dirtied, (unsigned long long)report.checked,
                (unsigned long long)report.disk_ops, (unsigned long long)report.errors);
}

static void tick_forever(uint64_t period_ms) {
    /* Ahead of everything else in the guest: a late tick must mean a guest that did not run. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 50 });
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (uint64_t seq = 1;; seq++) {
        tick(seq);
        next.tv_nsec += (long)(period_ms % 1000) * 1000000;
        next.tv_sec += (time_t)(period_ms / 1000) + next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        /* A guest that fell behind goes on from now; making up would fake a quicker pulse. */
        if (now.tv_sec > next.tv_sec || (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec)) {
            next = now;
        }
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR) {
        }
    }
}

int main(void) {
    static struct settings settings;
    if (report_open("/dev/ttyS0") != 0) {
        fprintf(stderr, "ERROR cannot open the console: %s\n", strerror(errno));
        return 1;
    }
    if (settings_read(&settings, "/proc/cmdline") != 0 || content_setup(settings.seed) != 0) {
        report_error("bad settings, or no memory");
        return 1;
    }
    if (memory_start(&settings) != 0) {
        report_error("cannot fill %llu MiB", (unsigned long long)settings.mem);
        return 1;
    }
    if ((settings.disk != 0 || settings.disk_read != 0) && disk_start(&settings, "/dev/vda") != 0) {
        report_error("no disk: %s", strerror(errno));
        return 1;
    }
    if (settings.video != 0 && video_start(&settings) != 0) {
        report_error("no video RAM");
        return 1;
    }
    report_line("ready");
    tick_forever(settings.tick);
    return 0;
}
