/* SPDX-License-Identifier: Apache-2.0 */
/* What all C tests say in the same way. */
#ifndef GODWIT_TESTS_SUPPORT_CHECK_H
#define GODWIT_TESTS_SUPPORT_CHECK_H

/* cmocka wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Ends the test as skipped and says why, on a line that a script can count. */
#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        print_message("SKIP: " __VA_ARGS__);                                                                           \
        print_message("\n");                                                                                           \
        skip();                                                                                                        \
    } while (0)

/* Fails the test with the error's text unless `condition`. */
#define assert_ok(condition, err)                                                                                      \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fail_msg("%s: %s", #condition, (err)->desc);                                                               \
        }                                                                                                              \
    } while (0)

#endif
