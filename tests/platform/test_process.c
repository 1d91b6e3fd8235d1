/* SPDX-License-Identifier: Apache-2.0 */
/* /proc as this kernel writes it, and text that no kernel should write. */
#include "support.h"

#include "base/cleanup.h"
#include "host/process.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void parse_good_lines(void **state) {
    (void)state;
    struct mapping m;
    assert_true(process_parse_mapping("7f0000000000-7f0040000000 rw-s 00001000 00:2f 12345                      "
                                      "/dev/shm/a b (deleted)\n",
                                      &m));
    assert_int_equal(m.start, 0x7f0000000000);
    assert_int_equal(m.end, 0x7f0040000000);
    assert_int_equal(m.offset, 0x1000);
    assert_int_equal(m.device, makedev(0, 0x2f));
    assert_int_equal(m.inode, 12345);
    assert_true(m.readable && m.writable && !m.executable && m.shared);
    assert_string_equal(m.path, "/dev/shm/a b (deleted)");

    assert_true(process_parse_mapping("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]", &m));
    assert_true(!m.readable && m.executable && !m.shared && m.inode == 0);
    assert_string_equal(m.path, "[vsyscall]");
    assert_true(process_parse_mapping("1000-2000 r--p 00000000 103:02 18446744073709551615 \n", &m));
    assert_int_equal(m.inode, UINT64_MAX);
    assert_int_equal(m.device, makedev(0x103, 2));
    assert_string_equal(m.path, "");
    assert_true(process_parse_mapping("1000-2000 r--p 00000000 00:00 0", &m));
    assert_string_equal(m.path, "");
}

static void parse_bad_lines(void **state) {
    (void)state;
    static const char *const lines[] = {
        "",
        "\n",
        "1000",
        "1000-",
        "-1000-2000 r--p 00000000 00:00 0",
        "0x1000-2000 r--p 00000000 00:00 0",
        " 1000-2000 r--p 00000000 00:00 0",
        "2000-1000 r--p 00000000 00:00 0",
        "1000-1000 r--p 00000000 00:00 0",
        "10000000000000000-20000000000000000 r--p 00000000 00:00 0",
        "1000-2000 r--",
        "1000-2000 r--p",
        "1000-2000 r--p ",
        "1000-2000 r--pp 00000000 00:00 0",
        "1000-2000 q--p 00000000 00:00 0",
        "1000-2000 r--q 00000000 00:00 0",
        "1000-2000 r--p xyz 00:00 0",
        "1000-2000 r--p 00000000 00 0",
        "1000-2000 r--p 00000000 00:00",
        "1000-2000 r--p 00000000 00:00 ",
        "1000-2000 r--p 00000000 00:00 x",
        "1000-2000 r--p 00000000 00:00 1x",
        "1000-2000 r--p 00000000 00:00 99999999999999999999",
        "1000-2000 r--p 00000000 00:00 999999999999999999999999999999999999",
        "1000-2000 r--p 00000000 fffffffff:00 0",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct mapping m;
        if (process_parse_mapping(lines[i], &m)) {
            fail_msg("taken for a mapping: \"%s\"", lines[i]);
        }
    }
}

/* A path longer than the field, and every cut of a good line: nothing is read or written beyond the ends. */
static void parse_at_the_limits(void **state) {
    (void)state;
    char line[1024];
    struct mapping m;
    for (size_t length = 253; length <= 258; length++) {
        int n = snprintf(line, sizeof(line), "1000-2000 rw-s 00000000 00:01 7 /");
        memset(line + n, 'a', length - 1);
        line[(size_t)n + length - 1] = '\0';
        assert_true(process_parse_mapping(line, &m));
        assert_int_equal(strlen(m.path), length < sizeof(m.path) ? length : sizeof(m.path) - 1);
    }
    const char *good = "7f0000000000-7f0040000000 rw-s 00001000 00:2f 12345 /dev/shm/a";
    for (size_t length = 0; length < strlen(good); length++) {
        char *cut = strndup(good, length);
        assert_non_null(cut);
        process_parse_mapping(cut, &m);
        free(cut);
    }
}

static bool find_mapping(pid_t pid, const void *address, struct mapping *found) {
    struct mapping *list CLEANUP_FREE = NULL;
    size_t count = 0;
    struct error err = { 0 };
    uint64_t at = (uintptr_t)address, last = 0;
    assert_ok(process_mappings(pid, &list, &count, &err) == 0, &err);
    assert_true(count > 3);
    bool here = false;
    for (size_t i = 0; i < count; i++) {
        assert_true(list[i].start >= last);
        last = list[i].end;
        if (at >= list[i].start && at < list[i].end) {
            *found = list[i];
            here = true;
        }
    }
    return here;
}

static void run_wait(void *opaque) {
    (void)opaque;
    for (;;) {
        pause();
    }
}

/* The file behind a mapping, though it has no name any more; who else has it. */
static void mapped_file(void **state) {
    (void)state;
    struct target t;
    struct mapping m;
    struct stat st, other;
    struct error err = { 0 };
    char name[32], byte;
    pid_t pid = 0;
    target_start(&t, 4, SMALL_PAGE);
    target_ask(&t, TARGET_WRITE, 2, 'x');
    assert_true(find_mapping(t.pid, t.memory + SMALL_PAGE, &m));
    assert_int_equal(m.start, (uintptr_t)t.memory);
    assert_int_equal(m.end - m.start, 4 * SMALL_PAGE);
    assert_true(m.shared && m.writable);
    assert_int_equal(fstat(t.file, &st), 0);
    assert_int_equal(m.inode, st.st_ino);
    if (geteuid() == 0) {
        int fd = process_open_mapping(t.pid, &m, O_RDWR, &err);
        assert_ok(fd >= 0, &err);
        assert_int_equal(fstat(fd, &other), 0);
        assert_true(other.st_ino == st.st_ino && other.st_dev == st.st_dev);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(pread(fd, &byte, 1, 2 * SMALL_PAGE), 1);
        assert_int_equal(byte, 'x');
        close(fd);
        assert_ok(process_find_other_mapper(t.pid, m.device, m.inode, &pid, name, sizeof(name), &err) == 0, &err);
        pid_t third = child_start(run_wait, NULL); /* inherits the mapping */
        assert_int_equal(process_find_other_mapper(t.pid, m.device, m.inode, &pid, name, sizeof(name), &err), 1);
        assert_int_equal(pid, third);
        assert_true(strlen(name) > 0);
        child_end(third);
    }
    m.start += SMALL_PAGE; /* no such mapping */
    assert_int_equal(process_open_mapping(t.pid, &m, O_RDWR, &err), -1);
    target_end(&t);
}

static void run_exec(void *opaque) {
    int ready = *(int *)opaque;
    dup2(ready, 1);
    execl("/bin/sh", "sh", "-c", "echo; read x", "", "-object", "a b", "", (char *)NULL);
    _exit(1);
}

static void command_line(void **state) {
    (void)state;
    static const char *const expected[] = { "sh", "-c", "echo; read x", "", "-object", "a b", "" };
    const size_t words = sizeof(expected) / sizeof(expected[0]);
    int ready[2], input[2];
    char byte;
    struct error err = { 0 };
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(input), 0);
    int saved = dup(0);
    dup2(input[0], 0);
    pid_t pid = child_start(run_exec, &ready[1]);
    dup2(saved, 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    char **argv = process_command_line(pid, &err);
    assert_ok(argv != NULL, &err);
    for (size_t i = 0; i < words; i++) {
        assert_string_equal(argv[i], expected[i]);
    }
    assert_null(argv[words]);
    free(argv);
    child_end(pid);
    assert_null(process_command_line(pid, &err));
    assert_non_null(strstr(err.desc, "does not exist"));
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(input[i]);
    }
    close(saved);
}

static void descriptors(void **state) {
    (void)state;
    struct error err = { 0 };
    char found[64];
    int fd = memfd_create("looked-for", MFD_CLOEXEC);
    pid_t pid = child_start(run_wait, NULL);
    assert_int_equal(process_find_descriptor(pid, "/memfd:looked-for", found, sizeof(found), &err), 1);
    assert_string_equal(found, "/memfd:looked-for (deleted)");
    assert_int_equal(process_find_descriptor(pid, "/memfd:looked-for", found, 8, &err), 1);
    assert_string_equal(found, "/memfd:");
    assert_int_equal(process_find_descriptor(pid, "anon_inode:[nothing]", found, sizeof(found), &err), 0);
    child_end(pid);
    assert_int_equal(process_find_descriptor(pid, "x", found, sizeof(found), &err), -1);
    close(fd);
}

static void status_numbers(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_int_equal(process_tracer(getpid(), &err), 0);
    assert_int_equal(process_status_number(getpid(), "Pid", &err), getpid());
    assert_int_equal(process_status_number(getpid(), "Nonsense", &err), 0);
    assert_false(error_is_set(&err));
    assert_int_equal(process_tracer(0x3fffffff, &err), -1);
    assert_true(error_is_set(&err));
}

static void parse_nspid(void **state) {
    (void)state;
    assert_int_equal(process_parse_nspid("NSpid:\t4711\n"), 4711);
    assert_int_equal(process_parse_nspid("NSpid:\t4711\t12\t3\n"), 3);
    assert_int_equal(process_parse_nspid("NSpid:\t4711\t12"), 12);
    static const char *const bad[] = { "",
                                       "NSpid:",
                                       "NSpid:\n",
                                       "NSpid:\t0\n",
                                       "NSpid:\t1\t-2\n",
                                       "NSpid:\t1x\n",
                                       "NSpid:\t99999999999\n",
                                       "Pid:\t3\n",
                                       "NSpid:\t1\t18446744073709551617\n" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(process_parse_nspid(bad[i]), 0);
    }
}

struct inner {
    pid_t threads[2];
};

static void *tell_thread(void *opaque) {
    pid_t *id = opaque;
    __atomic_store_n(id, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    for (;;) {
        pause();
    }
    return NULL;
}

/* A process in a pid namespace of its own, as in a container: it says 1 and 2 of its threads. */
static void threads_of_another_namespace(void **state) {
    (void)state;
    struct inner *inner = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(inner, MAP_FAILED);
    struct error err = { 0 };
    if (geteuid() != 0) {
        skip();
    }
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);
    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, tell_thread, &inner->threads[1]);
        tell_thread(&inner->threads[0]);
    }
    while (__atomic_load_n(&inner->threads[0], __ATOMIC_ACQUIRE) == 0 ||
           __atomic_load_n(&inner->threads[1], __ATOMIC_ACQUIRE) == 0) {
        usleep(1000);
    }
    assert_int_equal(inner->threads[0], 1);
    pid_t ids[3] = { inner->threads[1], inner->threads[0] };
    assert_int_equal(process_outer_threads(pid, ids, 2, &err), 0);
    assert_int_equal(ids[1], pid);
    assert_int_not_equal(ids[0], pid);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)ids[0]);
    assert_int_equal(access(path, F_OK), 0);
    ids[0] = 77; /* none of its */
    assert_int_equal(process_outer_threads(pid, ids, 1, &err), -1);
    assert_true(error_is_set(&err));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(inner, 4096);
}

static void threads_of_our_own(void **state) {
    (void)state;
    struct error err = { 0 };
    pid_t id = (pid_t)syscall(SYS_gettid), same = id;
    assert_int_equal(process_outer_threads(getpid(), &same, 1, &err), 0);
    assert_int_equal(same, id);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_good_lines),
        cmocka_unit_test(parse_bad_lines),
        cmocka_unit_test(parse_at_the_limits),
        cmocka_unit_test(mapped_file),
        cmocka_unit_test(command_line),
        cmocka_unit_test(descriptors),
        cmocka_unit_test(status_numbers),
        cmocka_unit_test(parse_nspid),
        cmocka_unit_test(threads_of_another_namespace),
        cmocka_unit_test(threads_of_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
