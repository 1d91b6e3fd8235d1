/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_BASE_TEXT_H
#define GODWIT_BASE_TEXT_H

/* Makes text that may hold anybody's bytes fit for a terminal and for JSON, in place: valid UTF-8 (else '?') on one
 * line without control characters (spaces instead). */
void text_make_printable(char *text);

#endif
