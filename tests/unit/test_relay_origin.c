/* SPDX-License-Identifier: Apache-2.0 */
/* Where a redirected connection wanted to go: not to the relay that it is to be brought to. */
#include "relay/origin.h"
#include "support.h"

#include <stdio.h>

static bool wants(const char *wanted, const char *at) {
    struct origin o = { 0 };
    struct error err = { 0 };
    struct address to;
    snprintf(o.wanted, sizeof(o.wanted), "%s", wanted);
    assert_ok(address_parse(at, &to, &err) == 0, &err);
    return origin_wanted(&o, &to, 10 * CLOCK_S);
}

static void test_to_the_other_relay(void **state) {
    (void)state;
    assert_true(wants("tcp:192.0.2.7:4914", "tcp:192.0.2.7:4914"));
    assert_true(wants("tcp:[2001:db8::7]:4914", "tcp:[2001:db8:0::7]:4914"));
    assert_true(wants("tcp:127.0.0.1:4914", "tcp:localhost:4914"));
}

static void test_elsewhere(void **state) {
    (void)state;
    assert_false(wants("tcp:192.0.2.7:4915", "tcp:192.0.2.7:4914"));
    assert_false(wants("tcp:192.0.2.8:4914", "tcp:192.0.2.7:4914"));
    assert_false(wants("tcp:192.0.2.8:4914", "tcp:localhost:4914"));
    assert_false(wants("tcp:192.0.2.7:4914", "unix:/run/relay"));
    assert_false(wants("", "tcp:192.0.2.7:4914"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_other_relay),
        cmocka_unit_test(test_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
