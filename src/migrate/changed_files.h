/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that this migration changed or made, and that outlive it when the engine is killed: control groups' quotas, the
 * control socket. They are entries of the ledger, written before the change; whoever finds the engine dead puts them
 * back. One writer: the thread that throttles and sets up, then the guardian.
 */
#ifndef GODWIT_MIGRATE_CHANGED_FILES_H
#define GODWIT_MIGRATE_CHANGED_FILES_H

#include "base/error.h"
#include "ledger/ledger.h"

#define CHANGED_FILES_MOST 64

/* `before` is to be written to the file `path`, which must exist and hold `ours` then, or the `ours` of the call
 * before; both are single lines without an end. While this stands its `before` stays; NULL for both: there is nothing
 * to put back any more. CHANGED_FILES_MOST paths at most, of less than 256 bytes, lines of less than 64: -1 for more.
 */
int changed_file_note(struct ledger *l, const char *path, const char *before, const char *ours, struct error *err);
/* `path` must not outlive the engine. For the few sockets that it makes; one of 256 bytes and more is not kept. */
void changed_file_made(struct ledger *l, const char *path);
/* Puts back what stands, in the order in which it was noted first, and unsets it. With `engine_died` what was made is
 * deleted too; else the engine has done so. What somebody else changed since is left so, which is said. */
void changed_files_put_back(struct ledger *l, bool engine_died);

#endif
