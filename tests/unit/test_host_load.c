/* SPDX-License-Identifier: Apache-2.0 */
/* The host's load from invented /proc and cgroup trees, with an invented clock. */
#include "host/load.h"
#include "host/parse.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)
#define UNLIMITED_V1 "9223372036854771712\n"

/* A host of four CPUs; `idle` and `busy` are ticks of each CPU. */
static void put_stat(const char *root, int idle, int busy) {
    char text[1024];
    size_t n = (size_t)snprintf(text, sizeof(text), "cpu  %d 0 0 %d 0 0 0 0 0 0\n", 4 * busy, 4 * idle);
    for (int cpu = 0; cpu < 4; cpu++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "cpu%d %d 0 %d %d %d 0 0 0 7777 0\n", cpu, busy / 2,
                              busy - busy / 2, idle - idle / 4, idle / 4);
    }
    snprintf(text + n, sizeof(text) - n, "intr 123 0 0\nctxt 5\n");
    put_file(root, "/proc/stat", text);
}

static void put_host(const char *root) {
    put_stat(root, 1000, 1000);
    put_file(root, "/proc/self/status",
             "Name:\tgodwit\nCpus_allowed:\tf\nCpus_allowed_list:\t0-127\nMems_allowed:\t1\n");
    put_file(root, "/proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\n");
    put_file(root, "/proc/pressure/cpu",
             "some avg10=12.50 avg60=0.12 avg300=0.52 total=1000000\n"
             "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    put_file(root, "/proc/pressure/memory",
             "some avg10=1.25 avg60=0.00 avg300=0.00 total=500\n"
             "full avg10=0.75 avg60=0.00 avg300=0.00 total=100\n");
}

static struct host_meter *open_host(const char *root) {
    struct error err = { 0 };
    struct host_meter *m = host_load_open(root, &err);
    assert_ok(m != NULL, &err);
    return m;
}

/* The first sample only. */
static struct host_load look(const char *root) {
    struct host_load load;
    struct host_meter *m = open_host(root);
    host_load_sample(m, CLOCK_S, CLOCK_S, &load);
    host_load_close(m);
    return load;
}

#define assert_near(a, b)                                                                                              \
    do {                                                                                                               \
        if (!(fabs((a) - (b)) < 1e-6)) {                                                                               \
            fail_msg("%s is %g, not %g", #a, (double)(a), (double)(b));                                                \
        }                                                                                                              \
    } while (0)

static void the_first_sample_has_what_needs_no_interval(void **state) {
    put_host(*state);
    struct host_load l = look(*state);
    assert_near(l.cpus, 4);
    assert_near(l.cpu_idle, HOST_UNKNOWN);
    assert_near(l.cpu_own, HOST_UNKNOWN);
    assert_near(l.cpu_pressure, 12.5);
    assert_near(l.memory_pressure, 1.25);
    assert_near(l.memory_stall, 0.75);
    assert_int_equal(l.memory_total, 16 * MIB);
    assert_int_equal(l.memory_available, 8 * MIB);
}

static void later_samples_tell_the_difference(void **state) {
    put_host(*state);
    struct host_load l;
    struct host_meter *m = open_host(*state);
    host_load_sample(m, 0, 0, &l);
    put_stat(*state, 1000 + 30, 1000 + 70);
    put_file(*state, "/proc/pressure/cpu", "some avg10=99.00 avg60=0.12 avg300=0.52 total=1250000\n");
    host_load_sample(m, CLOCK_S, CLOCK_S / 2, &l);
    assert_near(l.cpu_idle, 4 * 0.3);
    assert_near(l.cpu_own, 0.5);
    assert_near(l.cpu_pressure, 25); /* a quarter of the second, whatever the mean says */
    assert_near(l.memory_pressure, 0);

    put_stat(*state, 1000 + 60, 1000 + 70);
    host_load_sample(m, CLOCK_S + 10 * CLOCK_MS, CLOCK_S, &l); /* too soon: the same again */
    assert_near(l.cpu_idle, 4 * 0.3);
    host_load_sample(m, 2 * CLOCK_S, CLOCK_S / 2, &l);
    assert_near(l.cpu_idle, 4);
    assert_near(l.cpu_own, 0);

    put_stat(*state, 0, 0); /* counters that go backwards */
    host_load_sample(m, 3 * CLOCK_S, 0, &l);
    assert_near(l.cpu_idle, HOST_UNKNOWN);
    assert_near(l.cpu_own, HOST_UNKNOWN);
    host_load_close(m);
}

static void only_our_cpus_count(void **state) {
    put_host(*state);
    struct host_load l;
    struct host_meter *m = open_host(*state);
    put_file(*state, "/proc/self/status", "Cpus_allowed_list:\t1,3,9\n");
    put_file(*state, "/proc/stat", "cpu0 0 0 0 0 0\ncpu1 0 0 0 0 0\ncpu3 0 0 0 0 0\n");
    host_load_sample(m, 0, 0, &l);
    assert_near(l.cpus, 2); /* CPU 9 is offline */
    put_file(*state, "/proc/stat", "cpu0 0 0 0 100 0\ncpu1 100 0 0 0 0\ncpu3 50 0 0 25 25\n");
    host_load_sample(m, CLOCK_S, 0, &l);
    assert_near(l.cpu_idle, 0.5);
    put_file(*state, "/proc/self/status",
             "Cpus_allowed_list:\t0-1\n"); /* other CPUs: their counters are no difference */
    host_load_sample(m, 2 * CLOCK_S, 0, &l);
    assert_near(l.cpus, 2);
    assert_near(l.cpu_idle, HOST_UNKNOWN);
    host_load_close(m);
}

static void a_host_that_says_nothing(void **state) {
    struct host_load l = look(*state);
    assert_near(l.cpus, 1);
    assert_near(l.cpu_idle, HOST_UNKNOWN);
    assert_near(l.cpu_pressure, HOST_UNKNOWN);
    assert_near(l.memory_pressure, HOST_UNKNOWN);
    assert_near(l.memory_stall, HOST_UNKNOWN);
    assert_int_equal(l.memory_total, 0);
    assert_int_equal(l.memory_available, 0);
    put_file(*state, "/proc/self/status", "Cpus_allowed_list:\t0-2\n");
    assert_near(look(*state).cpus, 3);
    l = look("/nowhere/at/all");
    assert_near(l.cpus, 1);
}

static void odd_files_are_unknown(void **state) {
    const char *odd[] = { "",
                          "\n",
                          "max",
                          "-1\n",
                          "some avg10=",
                          "some avg10=5000.00 avg60=0 total=1\n",
                          "some avg10=1.00 total=\n",
                          "cpu0 1 2 3",
                          "cpu0 1 2 3 x\n",
                          "cpu0 1 2\n",
                          "cpu99999 1 2 3 4\n",
                          "cpu0 18446744073709551615 18446744073709551615 1 1\n",
                          "MemAvailable: -5 kB\n",
                          "MemAvailable: 99999999999999999999 kB\n",
                          "MemAvailable: 18446744073709551615 kB\n" };
    const char *files[] = { "/proc/stat",        "/proc/meminfo",     "/proc/pressure/cpu",
                            "/proc/self/status", "/proc/self/cgroup", "/proc/self/mountinfo" };
    for (size_t i = 0; i < COUNT(odd); i++) {
        for (size_t f = 0; f < COUNT(files); f++) {
            put_file(*state, files[f], odd[i]);
        }
        struct host_load l = look(*state);
        assert_near(l.cpus, 1);
        assert_near(l.cpu_idle, HOST_UNKNOWN);
        assert_near(l.cpu_pressure, HOST_UNKNOWN);
        assert_int_equal(l.memory_available, 0);
    }
}

/* Groups of version 2, ours two levels deep. */
static void put_v2(const char *root) {
    put_host(root);
    put_file(root, "/proc/self/cgroup", "0::/vm.slice/godwit.scope\n");
    put_file(root, "/proc/self/mountinfo",
             "24 1 0:22 / /proc rw - proc proc rw\n"
             "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw\n");
}

static void the_tightest_group_counts_v2(void **state) {
    put_v2(*state);
    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.max", "50000 100000\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.max", "3145728\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.current", "2097152\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/godwit.scope/cpu.max", "200000 100000\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/godwit.scope/memory.max", "max\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/godwit.scope/memory.high", "6291456\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/godwit.scope/memory.current", "1048576\n");
    struct host_load l = look(*state);
    assert_near(l.cpus, 0.5);
    assert_int_equal(l.memory_available, 1 * MIB);

    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.max", "max 100000\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.max", "max\n");
    l = look(*state);
    assert_near(l.cpus, 2);
    assert_int_equal(l.memory_available, 5 * MIB); /* memory.high */

    /* page cache that can go is no use of memory */
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.max", "3145728\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.stat",
             "anon 5\ninactive_file_x 7\ninactive_file 1048576\nslab 3\n");
    assert_int_equal(look(*state).memory_available, 2 * MIB);
    put_file(*state, "/sys/fs/cgroup/vm.slice/memory.current", "99999999999\n");
    assert_int_equal(look(*state).memory_available, 0);
}

static void others_in_our_group_use_its_quota(void **state) {
    put_v2(*state);
    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.max", "200000 100000\n");
    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.stat", "usage_usec 1000000\nuser_usec 5\n");
    struct host_load l;
    struct host_meter *m = open_host(*state);
    host_load_sample(m, 0, 0, &l);
    put_stat(*state, 1100, 1000); /* the host itself is idle */
    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.stat", "usage_usec 2500000\nuser_usec 5\n");
    host_load_sample(m, CLOCK_S, CLOCK_S / 2, &l);
    assert_near(l.cpus, 2);
    assert_near(l.cpu_idle, 0.5);

    put_stat(*state, 1200, 1000);
    put_file(*state, "/sys/fs/cgroup/vm.slice/cpu.stat", "what\n"); /* then the group is taken to be ours alone */
    host_load_sample(m, 2 * CLOCK_S, CLOCK_S, &l);
    assert_near(l.cpu_idle, 1.5);
    host_load_close(m);
}

static void groups_of_version_1(void **state) {
    put_host(*state);
    put_file(*state, "/proc/self/cgroup", "9:name=systemd:/\n4:memory:/m/a\n2:cpu,cpuacct:/c/a\n3:cpuset:/\n0::/\n");
    put_file(*state, "/proc/self/mountinfo",
             "1 1 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
             "2 1 0:2 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
             "3 1 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
             "4 1 0:4 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
             "5 1 0:5 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "150000\n");
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "50000\n");
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/c/cpuacct.usage", "5000000000\n");
    put_file(*state, "/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1);
    put_file(*state, "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "7340032\n");
    put_file(*state, "/sys/fs/cgroup/memory/m/memory.usage_in_bytes", "6291456\n");
    put_file(*state, "/sys/fs/cgroup/memory/m/memory.stat", "inactive_file 9999999\ntotal_inactive_file 2097152\n");
    struct host_load l;
    struct host_meter *m = open_host(*state);
    host_load_sample(m, 0, 0, &l);
    assert_near(l.cpus, 3);
    assert_int_equal(l.memory_available, 3 * MIB);
    put_stat(*state, 1100, 1000);
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/c/cpuacct.usage", "7000000000\n");
    host_load_sample(m, CLOCK_S, 0, &l);
    assert_near(l.cpu_idle, 1);
    host_load_close(m);
    put_file(*state, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "0\n");
    assert_near(look(*state).cpus, 4);
}

/* In a container the mount shows our own group, or the group's path leads out of what can be seen. */
static void groups_of_a_container(void **state) {
    put_host(*state);
    put_file(*state, "/proc/self/cgroup", "0::/docker/abc/inner\n");
    put_file(*state, "/proc/self/mountinfo", "5 1 0:5 /docker/abc /cg rw - cgroup2 cgroup2 rw\n");
    put_file(*state, "/cg/cpu.max", "100000 100000\n");
    put_file(*state, "/cg/inner/cpu.max", "250000 100000\n");
    put_file(*state, "/docker/abc/cpu.max", "10000 100000\n"); /* above the mount: not ours to see */
    assert_near(look(*state).cpus, 1);
    put_file(*state, "/cg/cpu.max", "max 100000\n");
    assert_near(look(*state).cpus, 2.5);
    put_file(*state, "/proc/self/cgroup", "0::/../other\n");
    put_file(*state, "/cg/cpu.max", "300000 100000\n");
    assert_near(look(*state).cpus, 3);
    put_file(*state, "/proc/self/cgroup", "0::/docker/abcdef\n"); /* a longer name is another group */
    assert_near(look(*state).cpus, 3);
}

static void a_large_host(void **state) {
    put_host(*state);
    char *text = malloc(1 << 20);
    assert_non_null(text);
    size_t n = 0;
    for (int cpu = 0; cpu < 2000; cpu++) {
        n += (size_t)snprintf(text + n, (1 << 20) - n, "cpu%d 1000000 0 1000000 100000000 5 0 0 0 0 0\n", cpu);
    }
    put_file(*state, "/proc/stat", text);
    put_file(*state, "/proc/self/status", "Cpus_allowed_list:\t0-1999\n");
    assert_near(look(*state).cpus, 2000);
    memset(text, '1', (1 << 20) - 1); /* more than anybody reads */
    text[(1 << 20) - 1] = '\0';
    put_file(*state, "/proc/stat", text);
    put_file(*state, "/proc/meminfo", text);
    assert_int_equal(look(*state).memory_available, 0);
    free(text);
}

static void this_host(void **state) {
    (void)state;
    struct host_load l;
    struct host_meter *m = open_host("");
    host_load_sample(m, clock_now(), clock_cpu(), &l);
    assert_true(l.cpus > 0 && l.memory_total > 0);
    clock_sleep(60 * CLOCK_MS);
    host_load_sample(m, clock_now(), clock_cpu(), &l);
    assert_true(l.cpu_own >= 0 && l.cpu_idle >= HOST_UNKNOWN && l.cpu_idle <= l.cpus);
    host_load_close(m);
}

static void closing_nothing(void **state) {
    (void)state;
    host_load_close(NULL);
}

#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_TREE(the_first_sample_has_what_needs_no_interval),
        WITH_TREE(later_samples_tell_the_difference),
        WITH_TREE(only_our_cpus_count),
        WITH_TREE(a_host_that_says_nothing),
        WITH_TREE(odd_files_are_unknown),
        WITH_TREE(the_tightest_group_counts_v2),
        WITH_TREE(others_in_our_group_use_its_quota),
        WITH_TREE(groups_of_version_1),
        WITH_TREE(groups_of_a_container),
        WITH_TREE(a_large_host),
        cmocka_unit_test(this_host),
        cmocka_unit_test(closing_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
