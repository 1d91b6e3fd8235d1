/* SPDX-License-Identifier: Apache-2.0 */
/* Throttling by quota on invented control groups; no thread of these numbers needs to be there. */
#include "hold/throttle.h"
#include "support.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define VMM 4000
#define MACHINE "/machine.slice/vm1.scope/libvirt"
#define V2 "/sys/fs/cgroup" MACHINE
#define V1 "/sys/fs/cgroup/cpu,cpuacct" MACHINE

static const pid_t vcpus[2] = { 4001, 4002 };

#define assert_file(root, path, text)                                                                                  \
    do {                                                                                                               \
        char name_[512], line_[128] = "";                                                                              \
        snprintf(name_, sizeof(name_), "%s%s", (root), (path));                                                        \
        FILE *file_ = fopen(name_, "re");                                                                              \
        assert_non_null(file_);                                                                                        \
        assert_non_null(fgets(line_, sizeof(line_), file_));                                                           \
        fclose(file_);                                                                                                 \
        line_[strcspn(line_, "\n")] = '\0';                                                                            \
        assert_string_equal(line_, (text));                                                                            \
    } while (0)

static void drop(const char *root, const char *path) {
    char name[512];
    snprintf(name, sizeof(name), "%s%s", root, path);
    assert_int_equal(remove(name), 0);
}

static void put_thread(const char *root, int tid, const char *groups) {
    char path[128];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/cgroup", VMM, tid);
    put_file(root, path, groups);
}

/* libvirt's: a group for each vCPU. */
static void put_v2(const char *root) {
    put_file(root, "/proc/self/mountinfo",
             "25 1 0:23 / / rw - ext4 /dev/sda1 rw\n"
             "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put_thread(root, 4000, "0::" MACHINE "/emulator\n");
    put_thread(root, 4001, "0::" MACHINE "/vcpu0\n");
    put_thread(root, 4002, "0::" MACHINE "/vcpu1\n");
    put_file(root, V2 "/vcpu0/cpu.max", "max 100000\n");
    put_file(root, V2 "/vcpu0/cgroup.threads", "4001\n");
    put_file(root, V2 "/vcpu1/cpu.max", "50000 100000\n");
    put_file(root, V2 "/vcpu1/cgroup.threads", "4002\n");
}

/* Both vCPUs in one group, the hierarchy mounted from its middle. */
static void put_v1(const char *root) {
    put_file(root, "/proc/self/mountinfo",
             "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
             "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
             "32 25 0:28 /other /mnt rw - cgroup cgroup rw,cpu,cpuacct\n"
             "33 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
    for (int tid = 4001; tid <= 4002; tid++) {
        put_thread(root, tid, "5:memory:/m\n4:cpu,cpuacct:" MACHINE "/vcpus\n0::/unified\n");
    }
    put_file(root, V1 "/vcpus/cpu.cfs_quota_us", "-1\n");
    put_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000\n");
    put_file(root, V1 "/vcpus/tasks", "4001\n4002\n");
}

/* What the undoer heard, "path=before>ours" or "path" for what was put back; a line each. */
static char heard[4096];
static int refuse_after = -1;

static int hear(void *opaque, const char *path, const char *before, const char *ours, struct error *err) {
    size_t n = strlen(heard);
    path += strlen(opaque);
    if (before != NULL && refuse_after == 0) {
        return error_set(err, ERROR_REFUSED, "no room for notes");
    }
    refuse_after -= before != NULL && refuse_after > 0;
    if (before != NULL) {
        snprintf(heard + n, sizeof(heard) - n, "%s=%s>%s\n", path, before, ours);
    } else {
        snprintf(heard + n, sizeof(heard) - n, "%s\n", path);
    }
    return 0;
}

static struct throttle *try_open(char *root, struct error *err) {
    struct throttle_config config = { .pid = VMM, .kind = THROTTLE_QUOTA, .root = root, .note = hear, .opaque = root };
    heard[0] = '\0';
    refuse_after = -1;
    return throttle_open(&config, vcpus, COUNT(vcpus), err);
}

static struct throttle *open_quota(char *root) {
    struct error err = { 0 };
    struct throttle *t = try_open(root, &err);
    assert_ok(t != NULL, &err);
    assert_string_equal(heard, "");
    return t;
}

static void set(struct throttle *t, unsigned percent) {
    struct error err = { 0 };
    assert_ok(throttle_set(t, percent, &err) == 0, &err);
    assert_ok(throttle_check(t, &err) == 0, &err);
}

static void expect_refusal(char *root, const char *text) {
    struct error err = { 0 };
    struct throttle *t = try_open(root, &err);
    if (t != NULL) {
        throttle_close(t);
    }
    assert_refused(t != NULL ? 0 : -1, &err, ERROR_REFUSED, text);
    assert_string_equal(heard, "");
}

static void v2_is_throttled_and_put_back(void **state) {
    char *root = *state;
    put_v2(root);
    struct throttle *t = open_quota(root);
    set(t, 50);
    assert_file(root, V2 "/vcpu0/cpu.max", "50000 100000");
    assert_file(root, V2 "/vcpu1/cpu.max", "25000 100000"); /* half of what the operator left it */
    assert_string_equal(heard,
                        V2 "/vcpu0/cpu.max=max 100000>50000 100000\n" V2 "/vcpu1/cpu.max=50000 100000>25000 100000\n");
    heard[0] = '\0';
    set(t, 99);
    assert_string_equal(heard,
                        V2 "/vcpu0/cpu.max=max 100000>1000 100000\n" V2 "/vcpu1/cpu.max=50000 100000>1000 200000\n");
    assert_file(root, V2 "/vcpu0/cpu.max", "1000 100000");
    assert_file(root, V2 "/vcpu1/cpu.max", "1000 200000"); /* 1 ms is the kernel's least */
    heard[0] = '\0';
    set(t, 0);
    assert_file(root, V2 "/vcpu0/cpu.max", "max 100000");
    assert_file(root, V2 "/vcpu1/cpu.max", "50000 100000");
    assert_string_equal(heard, V2 "/vcpu0/cpu.max\n" V2 "/vcpu1/cpu.max\n");
    set(t, 0);
    /* what the operator wrote in between is what comes back */
    put_file(root, V2 "/vcpu0/cpu.max", "80000 40000\n");
    heard[0] = '\0';
    set(t, 75);
    assert_file(root, V2 "/vcpu0/cpu.max", "10000 40000"); /* one thread cannot use two CPUs */
    assert_string_equal(heard,
                        V2 "/vcpu0/cpu.max=80000 40000>10000 40000\n" V2 "/vcpu1/cpu.max=50000 100000>12500 100000\n");
    assert_true(throttle_held_ns(t) > 0);
    throttle_close(t);
    assert_file(root, V2 "/vcpu0/cpu.max", "80000 40000");
    assert_file(root, V2 "/vcpu1/cpu.max", "50000 100000");
}

static void v1_is_throttled_and_put_back(void **state) {
    char *root = *state;
    put_v1(root);
    struct throttle *t = open_quota(root);
    set(t, 50);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "50000"); /* of two threads */
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000");
    assert_string_equal(heard, V1 "/vcpus/cpu.cfs_quota_us=-1>50000\n" V1 "/vcpus/cpu.cfs_period_us=50000>50000\n");
    set(t, 99);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "1000");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000");
    set(t, 0);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "-1");
    put_file(root, V1 "/vcpus/cpu.cfs_quota_us", "5000\n");
    set(t, 90);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "1000");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "100000");
    set(t, 50);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "2500");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000");
    set(t, 99);
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "1000000");
    throttle_close(t);
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "5000");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000");
}

static void without_an_undoer_it_is_refused(void **state) {
    struct error err = { 0 };
    put_v2(*state);
    struct throttle_config config = { .pid = VMM, .kind = THROTTLE_QUOTA, .root = *state };
    assert_null(throttle_open(&config, vcpus, COUNT(vcpus), &err));
    expect_error(&err, ERROR_REFUSED, "nobody would put it back", "throttle_open");
}

static void groups_with_other_threads_are_refused(void **state) {
    char *root = *state;
    put_v2(root);
    put_file(root, V2 "/vcpu0/cgroup.threads", "4001\n4000\n");
    expect_refusal(root, "threads of the VMM that are no vCPUs are in the same group (thread 4000 in ");
    put_file(root, V2 "/vcpu0/cgroup.threads", "4001\n5000\n");
    expect_refusal(root, "threads of other processes are in the same group (thread 5000 in ");
    put_file(root, V2 "/vcpu0/cgroup.threads", "4001\n");
    put_file(root, V2 "/vcpu1/deeper/cgroup.threads", "");
    expect_refusal(root, "there are groups below ");
}

static void what_cannot_be_written_is_refused(void **state) {
    char *root = *state;
    put_v2(root);
    put_thread(root, 4002, "0::/\n");
    put_file(root, "/sys/fs/cgroup/cgroup.threads", "4002\n");
    expect_refusal(root, "it is the root, or its cpu controller is off");
    put_thread(root, 4002, "0::/../sibling\n");
    expect_refusal(root, "outside of our cgroup namespace");
    put_thread(root, 4002, "1:name=systemd:/\n");
    expect_refusal(root, "is in no control group");
    put_thread(root, 4002, "1:cpu:/x\n");
    expect_refusal(root, "control group /x is not mounted here");
    drop(root, "/proc/4000/task/4002/cgroup");
    expect_refusal(root, "thread 4002 is not one of process 4000");
}

static void nonsense_is_no_quota(void **state) {
    char *root = *state;
    static const char *const texts[] = { "", "x", "max", "max x", "max 0", "0 100000", "1000 2000000", "-1 100000" };
    put_v2(root);
    struct throttle *t = open_quota(root);
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct error err = { 0 };
        put_file(root, V2 "/vcpu1/cpu.max", texts[i]);
        assert_refused(throttle_set(t, 50, &err), &err, ERROR_SYSTEM, "cannot make sense of");
        assert_file(root, V2 "/vcpu0/cpu.max", "max 100000");
    }
    put_file(root, V2 "/vcpu1/cpu.max", "max 100000\n");
    put_file(root, V2 "/vcpu1/cgroup.threads", "4002 x\n");
    struct error err = { 0 };
    assert_refused(throttle_set(t, 50, &err), &err, ERROR_SYSTEM, "cannot make sense of");
    throttle_close(t);
}

static void an_undoer_that_refuses_stops_it(void **state) {
    char *root = *state;
    struct error err = { 0 };
    put_v2(root);
    struct throttle *t = open_quota(root);
    refuse_after = 1;
    assert_refused(throttle_set(t, 50, &err), &err, ERROR_REFUSED, "no room for notes");
    assert_file(root, V2 "/vcpu0/cpu.max", "max 100000");
    assert_file(root, V2 "/vcpu1/cpu.max", "50000 100000");
    assert_string_equal(heard,
                        V2 "/vcpu0/cpu.max=max 100000>50000 100000\n" V2 "/vcpu1/cpu.max\n" V2 "/vcpu0/cpu.max\n");
    throttle_close(t);
}

static void what_somebody_else_wrote_stays(void **state) {
    char *root = *state;
    struct error err = { 0 };
    put_v2(root);
    struct throttle *t = open_quota(root);
    set(t, 50);
    put_file(root, V2 "/vcpu0/cpu.max", "7000 70000\n");
    assert_refused(throttle_check(t, &err), &err, ERROR_VMM, "somebody else changed");
    assert_file(root, V2 "/vcpu0/cpu.max", "7000 70000");
    assert_file(root, V2 "/vcpu1/cpu.max", "50000 100000");
    set(t, 50);
    assert_file(root, V2 "/vcpu0/cpu.max", "3500 70000");
    put_file(root, V2 "/vcpu0/cpu.max", "7000 70000\n");
    assert_refused(throttle_set(t, 60, &err), &err, ERROR_VMM, "somebody else changed");
    assert_file(root, V2 "/vcpu0/cpu.max", "7000 70000");
    throttle_close(t);
}

/* v1: of two files the operator may have meant one; the other is ours to put back all the same. */
static void what_somebody_else_wrote_stays_v1(void **state) {
    char *root = *state;
    struct error err = { 0 };
    put_v1(root);
    put_file(root, V1 "/vcpus/cpu.cfs_quota_us", "5000\n");
    struct throttle *t = open_quota(root);
    set(t, 99);
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "1000000");
    put_file(root, V1 "/vcpus/cpu.cfs_quota_us", "30000\n");
    assert_refused(throttle_check(t, &err), &err, ERROR_VMM, "somebody else changed");
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "30000");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "50000");
    set(t, 50);
    put_file(root, V1 "/vcpus/cpu.cfs_period_us", "70000\n");
    assert_refused(throttle_set(t, 60, &err), &err, ERROR_VMM, "somebody else changed");
    assert_file(root, V1 "/vcpus/cpu.cfs_quota_us", "30000");
    assert_file(root, V1 "/vcpus/cpu.cfs_period_us", "70000");
    throttle_close(t);
}

static void vcpus_may_go_one_by_one(void **state) {
    char *root = *state;
    struct error err = { 0 };
    put_v2(root);
    struct throttle *t = open_quota(root);
    set(t, 50);
    put_file(root, V2 "/vcpu0/cgroup.threads", "");
    set(t, 75);
    assert_file(root, V2 "/vcpu0/cpu.max", "50000 100000");
    assert_file(root, V2 "/vcpu1/cpu.max", "12500 100000");
    drop(root, V2 "/vcpu0/cpu.max");
    drop(root, V2 "/vcpu0/cgroup.threads");
    drop(root, V2 "/vcpu0");
    set(t, 50);
    put_file(root, V2 "/vcpu1/cgroup.threads", "");
    assert_refused(throttle_check(t, &err), &err, ERROR_VMM, "have ended");
    assert_file(root, V2 "/vcpu1/cpu.max", "50000 100000");
    assert_refused(throttle_set(t, 50, &err), &err, ERROR_VMM, "have ended");
    throttle_close(t);
}

static void kinds_have_names(void **state) {
    (void)state;
    assert_string_equal(throttle_kind_name(THROTTLE_AUTO), "auto");
    assert_string_equal(throttle_kind_name(THROTTLE_DUTY), "duty");
    assert_string_equal(throttle_kind_name(THROTTLE_QUOTA), "quota");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(v2_is_throttled_and_put_back),      TEST(v1_is_throttled_and_put_back),
        TEST(without_an_undoer_it_is_refused),   TEST(groups_with_other_threads_are_refused),
        TEST(what_cannot_be_written_is_refused), TEST(nonsense_is_no_quota),
        TEST(an_undoer_that_refuses_stops_it),   TEST(what_somebody_else_wrote_stays),
        TEST(what_somebody_else_wrote_stays_v1), TEST(vcpus_may_go_one_by_one),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
