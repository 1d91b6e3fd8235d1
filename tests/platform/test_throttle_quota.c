/* SPDX-License-Identifier: Apache-2.0 */
/* Throttling by quota on the control groups of this host, where it has some to give. */
#include "spinners.h"
#include "support.h"

#include "base/clock.h"
#include "hold/throttle.h"
#include "host/file.h"
#include "host/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A group of ours for vCPU threads, and in v2 the one around it, in which the whole process is. */
struct place {
    bool v2;
    char outer[1200], group[1300];
};

static int notes, forgotten;

static int take_note(void *opaque, const char *path, const char *before, const char *ours, struct error *err) {
    (void)opaque, (void)path, (void)ours, (void)err;
    notes += before != NULL;
    forgotten += before == NULL;
    return 0;
}

static bool write_to(const char *directory, const char *name, const char *text) {
    char path[1400];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void read_from(const char *directory, const char *name, char *text, size_t size) {
    char path[1400];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, (int)size, file));
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
}

static void remove_place(const struct place *p) {
    rmdir(p->group);
    if (p->v2) {
        rmdir(p->outer);
    }
}

static bool move_thread(const struct place *p, pid_t tid) {
    char number[32];
    snprintf(number, sizeof(number), "%d", (int)tid);
    return write_to(p->group, p->v2 ? "cgroup.threads" : "tasks", number);
}

static bool make_v1(struct place *p, const char *point) {
    snprintf(p->group, sizeof(p->group), "%s/godwit-test-%d", point, (int)getpid());
    return mkdir(p->group, 0700) == 0;
}

static bool make_v2(struct place *p, const char *point, pid_t pid) {
    char number[32];
    snprintf(number, sizeof(number), "%d", (int)pid);
    snprintf(p->outer, sizeof(p->outer), "%s/godwit-test-%d", point, (int)getpid());
    snprintf(p->group, sizeof(p->group), "%s/vcpus", p->outer);
    return write_to(point, "cgroup.subtree_control", "+cpu") && mkdir(p->outer, 0700) == 0 &&
           write_to(p->outer, "cgroup.procs", number) && mkdir(p->group, 0700) == 0 &&
           write_to(p->group, "cgroup.type", "threaded") && write_to(p->outer, "cgroup.subtree_control", "+cpu");
}

static bool make_place(struct place *p, const struct spinners *s) {
    struct host_text text = { 0 };
    struct host_mount m;
    int fd = host_open("", "/proc/self/mountinfo");
    const char *mounts = host_read(fd, &text);
    bool made = false;
    while (!made && mounts != NULL && parse_mount(&mounts, &m)) {
        *p = (struct place){ .v2 = m.v2 };
        made = m.cpu && (m.v2 ? make_v2(p, m.point, s->pid) : make_v1(p, m.point));
        for (unsigned i = 0; made && i < s->count; i++) {
            made = move_thread(p, s->shared->tids[i]);
        }
        if (!made && p->group[0] != '\0') {
            remove_place(p);
        }
    }
    host_close(&fd);
    host_text_free(&text);
    return made;
}

/* Skips where there is no group to be had. */
static void start(struct spinners *s, struct place *p, unsigned count) {
    spinners_start(s, count);
    if (!make_place(p, s)) {
        spinners_end(s);
        SKIP("this host has no control group with a cpu controller that we could make groups in");
    }
    print_message("control groups v%d\n", p->v2 ? 2 : 1);
    notes = forgotten = 0;
}

/* A group can be removed a moment after its last thread ended. */
static void end(struct spinners *s, const struct place *p) {
    spinners_end(s);
    for (int i = 0; i < 1000 && rmdir(p->group) < 0 && errno == EBUSY; i++) {
        clock_sleep(CLOCK_MS);
    }
    remove_place(p);
}

static struct throttle *open_quota(const struct spinners *s, struct error *err) {
    struct throttle_config config = { .pid = s->pid, .kind = THROTTLE_QUOTA, .root = "", .note = take_note };
    return throttle_open(&config, s->shared->tids, s->count, err);
}

static void each_gets_its_share(void **state) {
    (void)state;
    struct spinners s;
    struct place p;
    struct error err = { 0 };
    start(&s, &p, 2);
    const char *file = p.v2 ? "cpu.max" : "cpu.cfs_quota_us";
    char before[64], after[64];
    read_from(p.group, file, before, sizeof(before));
    struct throttle *t = open_quota(&s, &err);
    assert_ok(t != NULL, &err);
    assert_int_equal(throttle_kind(t), THROTTLE_QUOTA);
    assert_int_equal(notes, 0);
    double share[3], free_share = spinners_share(&s, CLOCK_S / 2);
    const unsigned percent[3] = { 50, 90, 99 };
    for (int i = 0; i < 3; i++) {
        assert_ok(throttle_set(t, percent[i], &err) == 0, &err);
        share[i] = spinners_share(&s, 2 * CLOCK_S);
        assert_ok(throttle_check(t, &err) == 0, &err);
        double wanted = (100 - percent[i]) / 100.0;
        print_message("%u %%: %.2f %% of the work\n", percent[i], 100 * share[i]);
        assert_true(share[i] < 3 * wanted);
        assert_true(share[i] > wanted * free_share / 10);
    }
    assert_true(share[0] > share[1] && share[1] > share[2]);
    assert_int_equal(notes, 3 * (p.v2 ? 1 : 2));
    assert_ok(throttle_set(t, 0, &err) == 0, &err);
    read_from(p.group, file, after, sizeof(after));
    assert_string_equal(before, after);
    assert_int_equal(forgotten, p.v2 ? 1 : 2);
    assert_ok(throttle_set(t, 99, &err) == 0, &err);
    throttle_close(t);
    read_from(p.group, file, after, sizeof(after));
    assert_string_equal(before, after);
    end(&s, &p);
}

static void a_group_with_other_threads_is_refused(void **state) {
    (void)state;
    struct spinners s;
    struct place p;
    struct error err = { 0 };
    start(&s, &p, 1);
    struct throttle *t = open_quota(&s, &err);
    assert_ok(t != NULL, &err);
    assert_ok(throttle_set(t, 50, &err) == 0, &err);
    assert_true(move_thread(&p, s.pid)); /* the main thread */
    assert_int_equal(throttle_check(t, &err), -1);
    assert_non_null(strstr(err.desc, "threads of the VMM that are no vCPUs are in the same group"));
    assert_int_equal(forgotten, notes);
    throttle_close(t);
    error_clear(&err);
    assert_null(open_quota(&s, &err));
    assert_int_equal(err.class, ERROR_REFUSED);
    end(&s, &p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_its_share),
        cmocka_unit_test(a_group_with_other_threads_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
