/* SPDX-License-Identifier: Apache-2.0 */
/* godwit probe: its exit status, text and JSON, with every feature taken away in turn. */
#include "support.h"

#include "cmd/probe.h"

#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Runs it with a fault plan and up to one argument; the caller frees *output. */
static int probe(const char *fault, const char *argument, char **output) {
    char *argv[] = { (char *)(uintptr_t) "probe", (char *)(uintptr_t)argument, NULL };
    int file = memfd_create("output", MFD_CLOEXEC), saved[2] = { dup(1), dup(2) };
    fflush(NULL);
    dup2(file, 1);
    dup2(file, 2);
    setenv("GODWIT_FAULT", fault, 1);
    optind = 0;
    int status = cmd_probe(argument != NULL ? 2 : 1, argv);
    unsetenv("GODWIT_FAULT");
    fflush(NULL);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    close(saved[0]);
    close(saved[1]);
    off_t size = lseek(file, 0, SEEK_END);
    *output = calloc(1, (size_t)size + 1);
    assert_non_null(*output);
    assert_int_equal(pread(file, *output, (size_t)size, 0), size);
    close(file);
    return status;
}

static void use(void **state) {
    (void)state;
    char *text;
    assert_int_equal(probe("none", "--help", &text), 0);
    assert_non_null(strstr(text, "usage: godwit probe [--json]"));
    free(text);
    assert_int_equal(probe("none", "--nonsense", &text), 2);
    free(text);
    assert_int_equal(probe("none", "nonsense", &text), 2);
    assert_non_null(strstr(text, "unexpected argument \"nonsense\""));
    free(text);
}

static void each_feature_missing(void **state) {
    (void)state;
    static const struct {
        const char *fault, *feature, *text, *tracker;
    } cases[] = {
        { "no-wp-async", "wp-async", "Linux 6.7", "sync" },
        { "no-pagemap-scan", "pagemap-scan", "Linux 6.7", "sync" },
        { "no-wp-shmem", "wp-shmem", "Linux 5.19", "async" },
        { "no-wp-anon", "wp-anon", "Linux 5.13", "async" },
        { "no-wp-async,no-wp-anon", "wp-anon", "Linux 5.13", "sync" },
        { "no-wp-async,no-wp-shmem", "wp-shmem", "Linux 5.19", "sync" },
        { "no-wp-async,no-wp-anon,no-wp-shmem", "wp-anon", "Linux 5.13", "none" },
        { "no-unprivileged-uffd", "unprivileged-userfaultfd", "vm.unprivileged_userfaultfd=1", "async" },
        { "no-ptrace-any", "ptrace-any", "CAP_SYS_PTRACE", "async" },
        { "no-map-files", "map-files", "CAP_SYS_ADMIN", "async" },
        { "no-ptrace", "ptrace", "ptrace_scope", "none" },
        { "no-pidfd-getfd", "pidfd-getfd", "Linux 5.6", "none" },
        { "no-userfaultfd", "userfaultfd", "CONFIG_USERFAULTFD", "none" },
    };
    char *text;
    if (!has_tracker(TRACKER_ASYNC)) {
        SKIP("this kernel has no async tracker to lose");
    }
    assert_int_equal(probe("none", NULL, &text), 0);
    print_message("%s", text);
    free(text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool possible = strcmp(cases[i].tracker, "none") != 0;
        char line[64];
        assert_int_equal(probe(cases[i].fault, NULL, &text), possible ? 0 : 1);
        snprintf(line, sizeof(line), "\n%-26s no ", cases[i].feature);
        assert_true(strstr(text, line) != NULL || strncmp(text, line + 1, strlen(line + 1)) == 0);
        assert_non_null(strstr(text, cases[i].text));
        free(text);

        assert_int_equal(probe(cases[i].fault, "--json", &text), possible ? 0 : 1);
        json_t *root = json_loads(text, 0, NULL);
        assert_non_null(root);
        assert_string_equal(json_string_value(json_object_get(root, "tracker")), cases[i].tracker);
        assert_int_equal(json_is_true(json_object_get(root, "possible")), possible);
        json_t *feature = json_object_get(json_object_get(root, "features"), cases[i].feature);
        assert_true(json_is_false(json_object_get(feature, "available")));
        assert_non_null(strstr(json_string_value(json_object_get(feature, "cure")), cases[i].text));
        json_decref(root);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(use),
        cmocka_unit_test(each_feature_missing),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
