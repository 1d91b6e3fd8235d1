/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error convention of godwit.
 *
 * A function that can fail returns 0 or -1 (or NULL) and takes a `struct error *` as its last parameter, never NULL.
 * On failure it has filled the error exactly once, at the place where the failure was detected, with a text that names
 * the cause and, where there is one, the cure. Callers pass the error on; they may put a prefix in front of the text.
 * The first cause is kept: filling an error that is already filled changes nothing.
 *
 * Nothing but main() ends the process: after any failure the source guest must be resumable.
 */
#ifndef GODWIT_BASE_ERROR_H
#define GODWIT_BASE_ERROR_H

#include <stdbool.h>

/* What kind of failure; printed as `error.class` in the JSON report. The order is not part of any interface. */
enum error_class {
    ERROR_NONE = 0,
    ERROR_USAGE,     /* the command line or a parameter is wrong */
    ERROR_REFUSED,   /* godwit will not migrate this guest, or not in this way; nothing was changed */
    ERROR_SYSTEM,    /* a system call failed */
    ERROR_VMM,       /* the VMM refused a command, answered nonsense or went away */
    ERROR_LINK,      /* the connection between the two godwits broke or was silent for too long */
    ERROR_PEER,      /* the other godwit failed, or said something that it must not say */
    ERROR_CORRUPT,   /* what arrived is not what left */
    ERROR_TIMEOUT,   /* it did not end, or did not come nearer to its end, in the time that it was given */
    ERROR_CANCELLED, /* somebody asked for it */
    ERROR_IN_DOUBT,  /* a break inside the hand-over: both guests are paused */
};

struct error {
    enum error_class class;
    char desc[1024]; /* one line of UTF-8 without a newline at its end; valid when class is not ERROR_NONE */
};

/*
 * error_set(err, class, format, ...)     fills `err`; is -1, so that `return error_set(...)` reads well
 * error_errno(err, class, format, ...)   the same, with ": " and strerror(errno) behind the text
 * error_prefix(err, format, ...)         puts text in front of a filled error; is -1
 *
 * Macros around the functions, so that compilers and analysers see the -1 too.
 */
#define error_set(...)                                                                                                 \
    __extension__({                                                                                                    \
        error_fill(__VA_ARGS__);                                                                                       \
        -1;                                                                                                            \
    })
#define error_errno(...)                                                                                               \
    __extension__({                                                                                                    \
        error_fill_errno(__VA_ARGS__);                                                                                 \
        -1;                                                                                                            \
    })
#define error_prefix(...)                                                                                              \
    __extension__({                                                                                                    \
        error_fill_prefix(__VA_ARGS__);                                                                                \
        -1;                                                                                                            \
    })

void error_fill(struct error *err, enum error_class class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void error_fill_errno(struct error *err, enum error_class class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void error_fill_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool error_is_set(const struct error *err);
void error_clear(struct error *err);

/* "refused", "link", …: the name in JSON. */
const char *error_class_name(enum error_class class);
/* The class with that name, ERROR_PEER when unknown: for errors that the peer reports. */
enum error_class error_class_from_name(const char *name);

#endif
