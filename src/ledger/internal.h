/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: the record's layout. */
#ifndef GODWIT_LEDGER_INTERNAL_H
#define GODWIT_LEDGER_INTERNAL_H

#include "ledger/ledger.h"

#include <stdatomic.h>

#define LEDGER_VERSION 1
#define LEDGER_SIZE ((size_t)96 << 10) /* bytes of a record, entries included; all of it is allocated at open */
#define LEDGER_MAGIC "godwitL"         /* with its NUL 8 bytes; written last: a file without it says nothing yet */

/* Bytes [0, HEAD_SIZE) of the record. In this machine's byte order: a record never leaves its host. */
struct record {
    char magic[8];
    uint32_t version;
    uint32_t size; /* LEDGER_SIZE */
    int32_t pid;   /* the VMM */
    uint32_t side; /* enum ledger_side */
    uint64_t start;
    uint64_t pid_namespace; /* inode: process ids of others mean nothing here */
    char boot[40];          /* the kernel's id of this boot */

    _Atomic uint32_t begun; /* an engine has begun to record */
    _Atomic uint32_t owner; /* enum ledger_owner */
    _Atomic uint32_t ran;
    _Atomic uint32_t standing;
    _Atomic int64_t beat;     /* clock_now() */
    _Atomic int64_t moved_at; /* clock_wall() */
    _Atomic int64_t word_by;  /* clock_now(); 0: nobody waits */
    _Atomic uint32_t used;    /* bytes, the head included: entries end here */
    uint32_t reserved[5];
};

#define HEAD_SIZE ((uint32_t)256)
_Static_assert(sizeof(struct record) <= HEAD_SIZE, "the head holds it, and what a later version adds");

/* In front of each payload; `size` of the payload, a multiple of 8. */
struct entry {
    uint16_t kind, version;
    uint32_t size;
    _Atomic uint32_t set;
    uint32_t reserved;
};

struct ledger {
    struct record *record; /* shared */
    int fd, directory;     /* -1: memory only */
    bool left;
    char name[48];
    char path[256];
};

/* file.c: the file of this VMM, locked and mapped. Fills all of `l`. */
int file_open(struct ledger *l, pid_t pid, uint64_t start, struct error *err);
/* Writes all of it to disk: the data only, for the file's blocks are there since it was opened. */
int file_sync(struct ledger *l, const char *what, struct error *err);
void file_remove(struct ledger *l);

/* entries.c: whether all entries of a record that was found lie in it as a whole. */
bool entries_are_whole(const struct record *r);

#endif
