/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an inspection of a VMM, or a comparison of two, has found: texts for people, all of them and not only the first.
 * A refusal stands against the migration; a remark is what somebody should know who goes on nevertheless.
 */
#ifndef GODWIT_VMM_FINDINGS_H
#define GODWIT_VMM_FINDINGS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

struct findings {
    json_t *refusals, *remarks; /* arrays of strings; owned */
};

/* For a variable of the caller: FINDINGS_INIT, and findings_release() at the end. */
#define FINDINGS_INIT ((struct findings){ json_array(), json_array() })
void findings_release(struct findings *f);
#define CLEANUP_FINDINGS __attribute__((cleanup(findings_release)))

/* Adds a text, made printable and cut to what an error holds; the same text twice is once. At most FINDINGS_MAX of a
 * kind: the rest of what a hostile VMM or peer makes up is dropped. */
#define FINDINGS_MAX 64
void findings_refuse(struct findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void findings_remark(struct findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes a failure that is a refusal for one more finding and clears it: 0. Any other failure stays in `err`: -1.
 * `result` is what the function that may have failed has returned; >= 0 is 0 here. */
int findings_take(struct findings *f, int result, struct error *err);

/* The verdict of somebody who wants to go on: remarks become warnings. -1 with all refusals in one text, the first in
 * full, when there are any. */
int findings_conclude(const struct findings *f, struct error *err);

/* Names for a text: "a, b, c", cut to fit. Begins as {0}. */
struct name_list {
    char text[600];
    size_t used; /* bytes of text; 0: no name */
};
void name_list_add(struct name_list *n, const char *name);

#endif
