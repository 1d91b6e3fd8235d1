/* SPDX-License-Identifier: Apache-2.0 */
#include "params/unit.h"
#include "support.h"

#include <locale.h>
#include <stdio.h>

static void reads(enum unit unit, const char *text, int64_t value) {
    int64_t got = -7;
    if (unit_parse(unit, text, &got) != UNIT_READ || got != value) {
        fail_msg("%s of '%s': %lld, not %lld", unit_name(unit), text, (long long)got, (long long)value);
    }
}

static void refuses(enum unit unit, const char *text, enum unit_outcome outcome) {
    int64_t got = -7;
    enum unit_outcome o = unit_parse(unit, text, &got);
    if (o != outcome || got != -7) {
        fail_msg("%s of '%s': outcome %d and %lld, not %d", unit_name(unit), text, o, (long long)got, outcome);
    }
}

static void times(void **state) {
    (void)state;
    reads(UNIT_MS, "300", 300);
    reads(UNIT_MS, "300ms", 300);
    reads(UNIT_MS, "2s", 2000);
    reads(UNIT_MS, "1.5s", 1500);
    reads(UNIT_MS, "0.001s", 1);
    reads(UNIT_MS, "1min", 60000);
    reads(UNIT_MS, "1h", 3600000);
    reads(UNIT_MS, "0", 0);
    reads(UNIT_MS, "0ms", 0);
    refuses(UNIT_MS, "0.0001s", UNIT_NOT_WHOLE);
    refuses(UNIT_MS, "1.5ms", UNIT_NOT_WHOLE);
    reads(UNIT_S, "10", 10);
    reads(UNIT_S, "10s", 10);
    reads(UNIT_S, "5000ms", 5);
    reads(UNIT_S, "5min", 300);
    reads(UNIT_S, "0.5h", 1800);
    refuses(UNIT_S, "4999ms", UNIT_NOT_WHOLE);
    refuses(UNIT_S, "5001ms", UNIT_NOT_WHOLE);
    refuses(UNIT_MS, "1m", UNIT_NONSENSE); /* a minute to some, a milli to others */
    refuses(UNIT_MS, "1us", UNIT_NONSENSE);
    refuses(UNIT_MS, "1K", UNIT_NONSENSE);
    refuses(UNIT_MS, "30%", UNIT_NONSENSE);
    refuses(UNIT_MS, "1S", UNIT_NONSENSE);
}

static void sizes(void **state) {
    (void)state;
    reads(UNIT_BYTES, "4096", 4096);
    reads(UNIT_BYTES, "4096B", 4096);
    reads(UNIT_BYTES, "128M", 128 << 20);
    reads(UNIT_BYTES, "128MiB", 128 << 20);
    reads(UNIT_BYTES, "128MB", 128000000);
    reads(UNIT_BYTES, "1K", 1024);
    reads(UNIT_BYTES, "1kB", 1000);
    reads(UNIT_BYTES, "1G", 1 << 30);
    reads(UNIT_BYTES, "1T", INT64_C(1) << 40);
    reads(UNIT_BYTES, "1.5G", INT64_C(3) << 29);
    refuses(UNIT_BYTES, "1.5", UNIT_NOT_WHOLE);
    refuses(UNIT_BYTES, "0.0001K", UNIT_NOT_WHOLE);
    static const char *const wrong[] = {
        "1k", "1m", "1g", "1KB", "1KK", "1 M", "M", "128MiB/s", "1gbit", "1bit", "1P"
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        refuses(UNIT_BYTES, wrong[i], UNIT_NONSENSE);
    }
}

static void rates(void **state) {
    (void)state;
    reads(UNIT_BYTES_PER_S, "1000", 1000);
    reads(UNIT_BYTES_PER_S, "1gbit", 125000000);
    reads(UNIT_BYTES_PER_S, "1Gbit/s", 125000000);
    reads(UNIT_BYTES_PER_S, "100mbit/s", 12500000);
    reads(UNIT_BYTES_PER_S, "2.5gbit", 312500000);
    reads(UNIT_BYTES_PER_S, "8bit", 1);
    reads(UNIT_BYTES_PER_S, "1kbit", 125);
    reads(UNIT_BYTES_PER_S, "128M", 128 << 20);
    reads(UNIT_BYTES_PER_S, "128MiB/s", 128 << 20);
    reads(UNIT_BYTES_PER_S, "1MB/s", 1000000);
    refuses(UNIT_BYTES_PER_S, "7bit", UNIT_NOT_WHOLE);
    refuses(UNIT_BYTES_PER_S, "9bit", UNIT_NOT_WHOLE);
    /* to some in bytes, to others in bits */
    refuses(UNIT_BYTES_PER_S, "1gbps", UNIT_NONSENSE);
    refuses(UNIT_BYTES_PER_S, "1Gb", UNIT_NONSENSE);
    refuses(UNIT_BYTES_PER_S, "1gbit/h", UNIT_NONSENSE);
    refuses(UNIT_BYTES_PER_S, "1gbits", UNIT_NONSENSE);
    refuses(UNIT_BYTES_PER_S, "1/s", UNIT_NONSENSE);
    refuses(UNIT_BYTES_PER_S, "/s", UNIT_NONSENSE);
    reads(UNIT_BITS_PER_S, "10G", 10000000000);
    reads(UNIT_BITS_PER_S, "100k", 100000);
    reads(UNIT_BITS_PER_S, "1gbit/s", 1000000000);
    refuses(UNIT_BITS_PER_S, "1K", UNIT_NONSENSE);
}

static void counts_and_percents(void **state) {
    (void)state;
    reads(UNIT_PERCENT, "30", 30);
    reads(UNIT_PERCENT, "30%", 30);
    refuses(UNIT_PERCENT, "30 %", UNIT_NONSENSE);
    refuses(UNIT_PERCENT, "0.3", UNIT_NOT_WHOLE);
    refuses(UNIT_PERCENT, "%", UNIT_NONSENSE);
    reads(UNIT_NONE, "-50", -50);
    refuses(UNIT_NONE, "-0", UNIT_NONSENSE);
    refuses(UNIT_NONE, "1K", UNIT_NONSENSE);
    refuses(UNIT_NONE, "1.0", UNIT_NONSENSE);
    refuses(UNIT_PAGES, "128.0", UNIT_NONSENSE);
    refuses(UNIT_MS, "-1", UNIT_NONSENSE);
}

static void the_ends_of_64_bits(void **state) {
    (void)state;
    reads(UNIT_BYTES, "9223372036854775806", INT64_MAX - 1);
    reads(UNIT_BYTES, "9223372036854775807", INT64_MAX);
    refuses(UNIT_BYTES, "9223372036854775808", UNIT_OVERFLOW);
    reads(UNIT_NONE, "-9223372036854775807", -INT64_MAX);
    refuses(UNIT_NONE, "-9223372036854775808", UNIT_OVERFLOW); /* nobody's level */
    reads(UNIT_BYTES, "8388607T", INT64_C(8388607) << 40);
    refuses(UNIT_BYTES, "8388608T", UNIT_OVERFLOW);
    refuses(UNIT_BYTES, "18446744073709551616", UNIT_OVERFLOW);    /* 2^64: 0 where it wraps */
    refuses(UNIT_BYTES, "16777216T", UNIT_OVERFLOW);               /* 2^64 */
    reads(UNIT_BYTES_PER_S, "73786976294838206456bit", INT64_MAX); /* beyond 64 bits before the division */
    refuses(UNIT_BYTES_PER_S, "73786976294838206464bit", UNIT_OVERFLOW);
    refuses(UNIT_BYTES, "9999999999999999999999999T", UNIT_OVERFLOW);  /* 25 digits */
    refuses(UNIT_BYTES, "10000000000000000000000000T", UNIT_NONSENSE); /* 26 */
    refuses(UNIT_BYTES, "00000000000000000000000001", UNIT_NONSENSE);
    refuses(UNIT_MS, "0.0000000000000000000000001h", UNIT_NONSENSE);
    refuses(UNIT_MS, "0.000000000000000000000001h", UNIT_NOT_WHOLE);
}

static void nonsense(void **state) {
    (void)state;
    static const char *const texts[] = { "",     " ",     "1 ",     " 1",    "+1",    "1.",   ".5",   "1..5",
                                         "1.5.", "1,5",   "0x10",   "1e3",   "inf",   "nan",  "auto", "--1",
                                         "1-",   "\t7",   "1\n",    "1,000", "1_0",   "٣",    "½",    "1٫5",
                                         "−1",   "1\x80", "1ms ms", "mss",   "1 000", "1'000" };
    for (int unit = 0; unit < UNIT_COUNT; unit++) {
        for (size_t i = 0; i < COUNT(texts); i++) {
            refuses((enum unit)unit, texts[i], UNIT_NONSENSE);
        }
    }
}

/* With a comma for decimals, and with case rules of their own. */
static void no_locale_has_a_say(void **state) {
    (void)state;
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "tr_TR.UTF-8" };
    bool found = false;
    for (size_t i = 0; i < COUNT(names); i++) {
        if (setlocale(LC_ALL, names[i]) != NULL) {
            found = true;
            reads(UNIT_MS, "1.5s", 1500);
            refuses(UNIT_MS, "1,5s", UNIT_NONSENSE);
            reads(UNIT_BYTES_PER_S, "1GBIT", 125000000);
        }
    }
    setlocale(LC_ALL, "C");
    if (!found) {
        SKIP("this host has no locale with a comma");
    }
}

static void shows(enum unit unit, int64_t value, const char *text) {
    char got[UNIT_TEXT_SIZE];
    assert_string_equal(unit_format(unit, value, got), text);
    reads(unit, text, value);
}

static void what_is_shown_is_read_as_the_same(void **state) {
    (void)state;
    shows(UNIT_MS, 0, "0");
    shows(UNIT_MS, 300, "300ms");
    shows(UNIT_MS, 2000, "2s");
    shows(UNIT_MS, 2500, "2500ms");
    shows(UNIT_S, 10, "10s");
    shows(UNIT_S, 300, "5min");
    shows(UNIT_BYTES, 128 << 20, "128M");
    shows(UNIT_BYTES, (128 << 20) + 1, "134217729");
    shows(UNIT_BYTES_PER_S, 125000000, "1gbit/s");
    shows(UNIT_BYTES_PER_S, 128 << 20, "128M/s");
    shows(UNIT_BYTES_PER_S, 1001, "1001");
    shows(UNIT_BITS_PER_S, 1000000000, "1gbit/s");
    shows(UNIT_PERCENT, 30, "30%");
    shows(UNIT_NONE, -5, "-5");
    shows(UNIT_PAGES, 128, "128");
    for (int unit = 0; unit < UNIT_COUNT; unit++) {
        static const int64_t values[] = { 1,       7,       999,     1000,      1024,         1025,
                                          1000000, 3600000, 1 << 20, INT64_MAX, INT64_MAX - 7 };
        for (size_t i = 0; i < COUNT(values); i++) {
            char text[UNIT_TEXT_SIZE];
            reads((enum unit)unit, unit_format((enum unit)unit, values[i], text), values[i]);
        }
    }
}

/* What errors and --help give as examples can be typed. */
static void the_examples_are_right(void **state) {
    (void)state;
    for (int unit = 0; unit < UNIT_COUNT; unit++) {
        char text[80], *rest = text, *word;
        snprintf(text, sizeof(text), "%s", unit_examples((enum unit)unit));
        while ((word = strsep(&rest, ", ")) != NULL) {
            int64_t value;
            if (*word != '\0' && strcmp(word, "or") != 0) {
                assert_int_equal(unit_parse((enum unit)unit, word, &value), UNIT_READ);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(sizes),
        cmocka_unit_test(rates),
        cmocka_unit_test(counts_and_percents),
        cmocka_unit_test(the_ends_of_64_bits),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(no_locale_has_a_say),
        cmocka_unit_test(what_is_shown_is_read_as_the_same),
        cmocka_unit_test(the_examples_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
