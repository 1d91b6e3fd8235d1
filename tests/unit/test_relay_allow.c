/* SPDX-License-Identifier: Apache-2.0 */
/* Where a relay may deliver to. */
#include "relay/allow.h"
#include "support.h"

static bool has(const char *list, const char *where) {
    struct allow a = { 0 };
    struct error err = { 0 };
    struct address at;
    assert_ok(allow_add(&a, list, &err) == 0, &err);
    assert_ok(address_parse(where, &at, &err) == 0, &err);
    return allow_has(&a, &at);
}

static void test_hosts_and_ports(void **state) {
    (void)state;
    static const char one[] = "192.0.2.7:49152-49215", net[] = "192.0.2.128/25:4444", six[] = "[2001:db8::7]:1-65535";
    assert_true(has(one, "tcp:192.0.2.7:49152"));
    assert_true(has(one, "tcp:192.0.2.7:49215"));
    assert_false(has(one, "tcp:192.0.2.7:49151"));
    assert_false(has(one, "tcp:192.0.2.7:49216"));
    assert_false(has(one, "tcp:192.0.2.6:49152"));
    assert_true(has(net, "tcp:192.0.2.128:4444"));
    assert_true(has(net, "tcp:192.0.2.255:4444"));
    assert_false(has(net, "tcp:192.0.2.127:4444"));
    assert_false(has(net, "tcp:192.0.2.128:4445"));
    assert_true(has(six, "tcp:[2001:db8::7]:22"));
    assert_false(has(six, "tcp:[2001:db8::8]:22"));
    assert_false(has("[2001:db8::]/33:5", "tcp:[2001:db8:8000::]:5"));
    assert_true(has("[2001:db8::]/32:5", "tcp:[2001:db8:8000::]:5"));
    assert_true(has("tcp:0.0.0.0/0:5", "tcp:8.8.8.8:5"));
}

/* What is no number is not looked up, and IPv4 is not IPv6. */
static void test_nothing_else(void **state) {
    (void)state;
    static const char all[] = "0.0.0.0/0:1-65535", all6[] = "[::]/0:1-65535";
    assert_false(has(all, "tcp:localhost:22"));
    assert_false(has(all, "tcp:127.0.0.1:ssh"));
    assert_false(has(all, "tcp:127.0.0.1:0"));
    assert_false(has(all, "tcp:127.0.0.1:65536"));
    assert_false(has(all, "tcp:127.0.0.1:22x"));
    assert_false(has(all, "tcp:[::1]:22"));
    assert_false(has(all, "unix:/run/x"));
    assert_false(has(all6, "tcp:127.0.0.1:22"));
    assert_true(has(all6, "tcp:[::1]:22"));
    assert_false(has(all6, "tcp:[::ffff:127.0.0.1]:22"));
    assert_false(has(all6, "tcp:[::ffff:7f00:1]:22"));
    assert_false(has(all, "tcp:127.1:22"));
}

static void test_many(void **state) {
    (void)state;
    struct allow a = { 0 };
    struct error err = { 0 };
    struct address at;
    assert_false(address_parse("tcp:127.0.0.1:5", &at, &err) < 0 || allow_has(&a, &at));
    for (unsigned i = 0; i < ALLOW_MOST - 1; i++) {
        assert_ok(allow_add(&a, "192.0.2.1:1", &err) == 0, &err);
    }
    assert_ok(allow_add(&a, "127.0.0.1:5", &err) == 0, &err);
    assert_true(allow_has(&a, &at));
    assert_refused(allow_add(&a, "127.0.0.1:6", &err), &err, ERROR_USAGE, "ranges");
}

static void test_nonsense(void **state) {
    (void)state;
    static const char *const texts[] = { "",
                                         ":",
                                         "1.2.3.4",
                                         "1.2.3.4:",
                                         "1.2.3.4:x",
                                         "1.2.3.4:0",
                                         "host:5",
                                         "1.2.3.4:9-8",
                                         "1.2.3.4:1-",
                                         "1.2.3.4:65536",
                                         "1.2.3:5",
                                         "[::1:5",
                                         "::1:5",
                                         "1.2.3.4/33:5",
                                         "1.2.3.4/:5",
                                         "[]:5",
                                         "1.2.3.4/x:5",
                                         "[::1]/129:5",
                                         "unix:/run/x",
                                         "1.2.3.4:1-2-3",
                                         "[::ffff:1.2.3.4]:5" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct allow a = { 0 };
        struct error err = { 0 };
        assert_refused(allow_add(&a, texts[i], &err), &err, ERROR_USAGE, texts[i]);
        assert_int_equal(a.count, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_and_ports),
        cmocka_unit_test(test_nothing_else),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
