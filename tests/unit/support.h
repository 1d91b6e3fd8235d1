/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests share. Only a test's main thread may assert: cmocka leaves a test by longjmp. */
#ifndef GODWIT_TESTS_UNIT_SUPPORT_H
#define GODWIT_TESTS_UNIT_SUPPORT_H

#include "../support/check.h"

#include "base/clock.h"
#include "base/error.h"
#include "ram/backing_internal.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* `call` must return -1 with an error of that class, whose text has `text` in it (NULL: any). Clears the error. */
#define assert_refused(call, err, class_, text)                                                                        \
    do {                                                                                                               \
        assert_int_equal((call), -1);                                                                                  \
        expect_error((err), (class_), (text), #call);                                                                  \
    } while (0)
void expect_error(struct error *err, enum error_class class, const char *text, const char *what);

/* Waits for something that another thread or process does. The bound is only there so that a failure ends. */
#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        int64_t wait_until_ = clock_now() + 40 * CLOCK_S;                                                              \
        while (!(condition)) {                                                                                         \
            if (clock_now() > wait_until_) {                                                                           \
                fail_msg("waited in vain for %s", #condition);                                                         \
            }                                                                                                          \
            clock_sleep(CLOCK_MS);                                                                                     \
        }                                                                                                              \
    } while (0)

/* Numbers that are the same in every run. */
uint64_t random_next(uint64_t *state);
static inline uint64_t random_below(uint64_t *state, uint64_t end) {
    return random_next(state) % end;
}
void random_fill(uint64_t *state, void *to, size_t size);
/* A page that an LZ4 encoder makes about half as large; never zero. */
void random_text(uint64_t *state, uint8_t *to, size_t size);

/* Connected stream sockets; `buffer` bytes of kernel buffer in each direction, as near as the kernel does it, or 0. */
void socket_pair(int ends[2], int buffer);

/* Writes root/path with the folders on the way. In place: descriptors that are open see the new text. */
void put_file(const char *root, const char *path, const char *text);

/* A block's backing on that file, of pages of `page_size`. The test closes the file. */
struct backing *backing_on(int fd, uint64_t size, uint64_t page_size, bool write);

/* A nameless file of `size` bytes on tmpfs, all hole. */
int tmpfs_file(uint64_t size);

/* A nameless file of `pages` pages of 2 MiB on hugetlbfs, all hole, and `needed` free pages that no other test takes;
 * -1 when the host has none to give. huge_release() gives back what was taken from the host. */
#define HUGE_PAGE ((size_t)2 << 20)
int huge_file(uint64_t pages, unsigned needed);
long huge_free(void);
void huge_release(void);

/* Group fixtures: a directory of our own in *state, removed with all that is in it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

#endif
