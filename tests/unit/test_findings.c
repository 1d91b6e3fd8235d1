/* SPDX-License-Identifier: Apache-2.0 */
/* What was found is told in full, once, and without end for nobody. */
#include "vmm/findings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

static void test_nothing(void **state) {
    (void)state;
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    findings_remark(&found, "a remark stops nobody");
    assert_int_equal(findings_conclude(&found, &err), 0);
    assert_false(error_is_set(&err));
}

static void test_all_in_one_text(void **state) {
    (void)state;
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    findings_refuse(&found, "one");
    findings_refuse(&found, "two\n\x1b[31m");
    findings_refuse(&found, "one");
    assert_int_equal(json_array_size(found.refusals), 2);
    assert_int_equal(findings_conclude(&found, &err), -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_string_equal(err.desc, "one; two  [31m");
}

/* A peer may make up any number of any length. */
static void test_too_many(void **state) {
    (void)state;
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    char text[400];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 3 * FINDINGS_MAX; i++) {
        findings_refuse(&found, "%d %s", i, text);
    }
    assert_int_equal(json_array_size(found.refusals), FINDINGS_MAX);
    assert_int_equal(findings_conclude(&found, &err), -1);
    assert_memory_equal(err.desc, "0 xx", 4);
    assert_non_null(strstr(err.desc, "; 1 xx"));
    assert_string_equal(err.desc + strlen(err.desc) - 13, "; and 62 more");
}

static void test_one_as_long_as_an_error(void **state) {
    (void)state;
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    char text[2 * sizeof(err.desc)];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    findings_refuse(&found, "%s", text);
    findings_refuse(&found, "another");
    assert_int_equal(findings_conclude(&found, &err), -1);
    assert_string_equal(err.desc + strlen(err.desc) - 12, "; and 1 more");
}

static void test_take(void **state) {
    (void)state;
    struct findings found CLEANUP_FINDINGS = FINDINGS_INIT;
    struct error err = { 0 };
    assert_int_equal(findings_take(&found, 0, &err), 0);
    assert_int_equal(findings_take(&found, error_set(&err, ERROR_REFUSED, "not this one"), &err), 0);
    assert_false(error_is_set(&err));
    assert_string_equal(json_string_value(json_array_get(found.refusals, 0)), "not this one");
    assert_int_equal(findings_take(&found, error_set(&err, ERROR_VMM, "it is gone"), &err), -1);
    assert_string_equal(err.desc, "it is gone");
    assert_int_equal(json_array_size(found.refusals), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),  cmocka_unit_test(test_all_in_one_text),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_one_as_long_as_an_error),
        cmocka_unit_test(test_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
