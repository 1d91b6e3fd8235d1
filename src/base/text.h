/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_BASE_TEXT_H
#define GODWIT_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* Makes text that may hold anybody's bytes fit for a terminal and for JSON, in place: valid UTF-8 (else '?') on one
 * line without control characters (spaces instead). */
void text_make_printable(char *text);

/* A decimal number without a sign off the front of *text; false when there is none or it does not fit. */
bool text_number(const char **text, uint64_t *value);

#endif
