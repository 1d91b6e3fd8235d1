/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <errno.h>
#include <jansson.h>

static void the_first_cause_is_kept(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_false(error_is_set(&err));
    assert_int_equal(error_set(&err, ERROR_LINK, "first %d", 1), -1);
    assert_int_equal(error_set(&err, ERROR_VMM, "second"), -1);
    errno = ENOENT;
    assert_int_equal(error_errno(&err, ERROR_SYSTEM, "third"), -1);
    assert_int_equal(err.class, ERROR_LINK);
    assert_string_equal(err.desc, "first 1");
    error_clear(&err);
    assert_false(error_is_set(&err));
    error_set(&err, ERROR_VMM, "second");
    assert_string_equal(err.desc, "second");
}

static void errno_is_told_and_kept(void **state) {
    (void)state;
    struct error err = { 0 };
    errno = ENOENT;
    error_errno(&err, ERROR_SYSTEM, "cannot open %s", "it");
    assert_string_equal(err.desc, "cannot open it: No such file or directory");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(error_prefix(&err, "while %s: ", "testing"), -1);
    assert_string_equal(err.desc, "while testing: cannot open it: No such file or directory");
    assert_int_equal(err.class, ERROR_SYSTEM);
}

static void no_control_character_gets_out(void **state) {
    (void)state;
    struct error err = { 0 };
    error_set(&err, ERROR_VMM,
              "a\nb\tc\rd\033[2Je\x7f"
              "f%s",
              "\x01\x1f");
    assert_string_equal(err.desc, "a b c d [2Je f  ");
    error_prefix(&err, "x\ny ");
    assert_string_equal(err.desc, "x y a b c d [2Je f  ");
    error_clear(&err);
    error_set(&err, ERROR_VMM,
              "\xc2\x9b"
              "31m\xc2\xa0");
    assert_string_equal(err.desc, "  31m\xc2\xa0"); /* U+009B is ESC [ in one character */
}

static void check_json(const struct error *err) {
    json_t *text = json_string(err->desc);
    assert_non_null(text);
    json_decref(text);
}

static void the_text_is_always_utf8(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "\xe2\x82\xac \xf0\x9f\x90\xa6", "\xe2\x82\xac \xf0\x9f\x90\xa6" },
        { "cut \xc3", "cut ?" },
        { "cut \xe2\x82", "cut ??" },
        { "cut \xf0\x9f\x90", "cut ???" },
        { "\xff\xfe", "??" },
        { "\x80", "?" },
        { "\xc0\xaf", "??" },           /* overlong */
        { "\xe0\x80\xaf", "???" },      /* overlong */
        { "\xf0\x80\x80\xaf", "????" }, /* overlong */
        { "\xed\xa0\x80", "???" },      /* a surrogate */
        { "\xf4\x90\x80\x80", "????" }, /* above U+10FFFF */
        { "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
        { "\xf8\x88\x80\x80\x80", "?????" },
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct error err = { 0 };
        error_set(&err, ERROR_PEER, "%s", texts[i][0]);
        assert_string_equal(err.desc, texts[i][1]);
        check_json(&err);
    }
}

static void a_long_text_is_cut(void **state) {
    (void)state;
    struct error err = { 0 };
    char text[2001];
    for (size_t i = 0; i + 1 < sizeof(text); i += 2) {
        memcpy(text + i, "\xc3\xa4", 2);
    }
    text[2000] = '\0';
    error_set(&err, ERROR_PEER, "%s", text);
    assert_int_equal(strlen(err.desc), sizeof(err.desc) - 1);
    check_json(&err); /* 1023 is odd: the cut went through a character */
    error_prefix(&err, "prefix: ");
    assert_int_equal(strlen(err.desc), sizeof(err.desc) - 1);
    assert_memory_equal(err.desc, "prefix: ", 8);
    check_json(&err);
    errno = EIO;
    error_clear(&err);
    error_errno(&err, ERROR_PEER, "%s", text);
    assert_int_equal(strlen(err.desc), sizeof(err.desc) - 1);
    error_clear(&err);
    error_errno(&err, ERROR_PEER, "%.1018s", text);
    assert_int_equal(strlen(err.desc), sizeof(err.desc) - 1);
    check_json(&err);
}

static void classes_have_names(void **state) {
    (void)state;
    for (int c = ERROR_USAGE; c <= ERROR_IN_DOUBT; c++) {
        const char *name = error_class_name((enum error_class)c);
        assert_true(name[0] != '\0');
        assert_int_equal(error_class_from_name(name), c);
    }
    assert_string_equal(error_class_name((enum error_class)(ERROR_IN_DOUBT + 1)), "none");
    assert_string_equal(error_class_name((enum error_class) - 1), "none");
    /* what a peer may say: an unknown class is an error too, never "none" */
    assert_int_equal(error_class_from_name("none"), ERROR_PEER);
    assert_int_equal(error_class_from_name(""), ERROR_PEER);
    assert_int_equal(error_class_from_name("Link"), ERROR_PEER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_cause_is_kept),
        cmocka_unit_test(errno_is_told_and_kept),
        cmocka_unit_test(no_control_character_gets_out),
        cmocka_unit_test(the_text_is_always_utf8),
        cmocka_unit_test(a_long_text_is_cut),
        cmocka_unit_test(classes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
