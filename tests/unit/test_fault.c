/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "support.h"

static void plan(const char *text) {
    if (text != NULL) {
        setenv("GODWIT_FAULT", text, 1);
    } else {
        unsetenv("GODWIT_FAULT");
    }
}

static int forget_plan(void **state) {
    (void)state;
    plan(NULL);
    return 0;
}

static void without_a_plan_nothing_fails(void **state) {
    (void)state;
    plan(NULL);
    assert_false(fault_planned("kill", NULL));
    assert_int_equal(fault_value("kill", "stop", 7), 7);
    plan("");
    assert_false(fault_planned("kill", NULL));
    assert_false(fault_planned("", NULL));
}

static void names_match_as_a_whole(void **state) {
    (void)state;
    plan("kill");
    assert_true(fault_planned("kill", NULL));
    assert_true(fault_planned("kill", "anywhere"));
    assert_false(fault_planned("kil", NULL));
    assert_false(fault_planned("kill2", NULL));
    assert_false(fault_planned("", NULL));
}

static void places_match_as_a_whole(void **state) {
    (void)state;
    plan("kill@stop,hold@iterate=500");
    assert_true(fault_planned("kill", "stop"));
    assert_true(fault_planned("kill", NULL));
    assert_false(fault_planned("kill", "sto"));
    assert_false(fault_planned("kill", "stop2"));
    assert_false(fault_planned("kill", "iterate"));
    assert_true(fault_planned("hold", "iterate"));
    assert_false(fault_planned("hold", "stop"));
}

static void values(void **state) {
    (void)state;
    plan("hold@iterate=500,hold@stop=-3,plain=12,bare");
    assert_int_equal(fault_value("hold", "iterate", 1), 500);
    assert_int_equal(fault_value("hold", "stop", 1), -3);
    assert_int_equal(fault_value("hold", NULL, 1), 500); /* the first one */
    assert_int_equal(fault_value("hold", "other", 1), 1);
    assert_int_equal(fault_value("plain", NULL, 1), 12);
    assert_int_equal(fault_value("plain", "anywhere", 1), 12);
    assert_int_equal(fault_value("bare", NULL, 9), 9);
    assert_true(fault_planned("bare", NULL));
}

static void numbered_places(void **state) {
    (void)state;
    plan("decoder-delay@1=200,decoder-delay@10=300");
    assert_int_equal(fault_value_at("decoder-delay", 0, 0), 0);
    assert_int_equal(fault_value_at("decoder-delay", 1, 0), 200);
    assert_int_equal(fault_value_at("decoder-delay", 10, 0), 300);
    assert_int_equal(fault_value_at("decoder-delay", 100, 0), 0);
    assert_int_equal(fault_value_at("decoder-delay", UINT32_MAX, 0), 0);
}

static void nonsense_is_survived(void **state) {
    (void)state;
    static const char *const plans[] = { ",", ",,,", "@", "=", "@=", "=@", "a@", "a=", "a=1@b", "@a=1,", "a@b@c=d=e" };
    for (size_t i = 0; i < COUNT(plans); i++) {
        plan(plans[i]);
        assert_false(fault_planned("kill", "stop"));
        assert_int_equal(fault_value("kill", NULL, 5), 5);
    }
    plan(",kill@stop,");
    assert_true(fault_planned("kill", "stop"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_plan_nothing_fails),
        cmocka_unit_test(names_match_as_a_whole),
        cmocka_unit_test(places_match_as_a_whole),
        cmocka_unit_test(values),
        cmocka_unit_test(numbered_places),
        cmocka_unit_test(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, forget_plan);
}
