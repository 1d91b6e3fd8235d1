/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record for each guest that godwit works on: what was done to it, how it is undone, and who may run it.
 *
 * It lives in memory that the engine and its guardian share, and that memory is a file: RUN/PID-START, where RUN is
 * /run/godwit (GODWIT_RUN overrides it) and PID-START are the VMM's process id and start time. So it is there for
 * whoever comes when both are dead: `godwit resolve`, or the next engine that wants this guest. Its lock (flock) is
 * what keeps two engines from working on one guest; the lock goes with the last process that holds it.
 *
 * One writer at a time: the engine (one of its threads), and when that has ended, the guardian. Everything that an
 * entry says is written before it is set, and it is set before what it tells of is done: whoever is killed at any
 * instruction has not done more than the ledger says.
 *
 * What is found in a file is not trusted: another version, a short file and garbage are errors that name the file, and
 * no entry is handed out that does not lie in the record as a whole.
 */
#ifndef GODWIT_LEDGER_LEDGER_H
#define GODWIT_LEDGER_LEDGER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum ledger_side { LEDGER_AT_SOURCE, LEDGER_AT_DESTINATION };

/* Who may run the guest, as far as this side knows. The moves: moves.c. */
enum ledger_owner { LEDGER_SOURCE, LEDGER_NOBODY, LEDGER_DESTINATION };

/* The kinds of entries. The numbers are in files: never use one again. Who writes a kind defines its payload. */
enum ledger_kind {
    LEDGER_MOVE = 1,         /* struct ledger_moved: for people, one for each move */
    LEDGER_CAPABILITIES = 2, /* the VMM's migration capabilities before us (vmm/qemu) */
    LEDGER_PARAMETERS = 3,   /* its migration parameters before us (vmm/qemu) */
    LEDGER_DESCRIPTOR = 4,   /* a descriptor that was passed to the VMM under a name (vmm/qemu) */
    LEDGER_MIGRATION = 5,    /* a migration of the VMM's own may be under way, the guest stopped by it (vmm/qemu) */
    LEDGER_LOAD = 6,         /* the destination's VMM has begun to load: there is no way back (vmm/qemu) */
    LEDGER_TEXT = 7,         /* a line of a file of the kernel's that we change (migrate/guardian.c) */
    LEDGER_FILE = 8,         /* a file that must not outlive us: its path (migrate/guardian.c) */
    LEDGER_INJECTION = 9,    /* a thread of the VMM in which we run system calls (migrate/injection.c) */
    LEDGER_SAVE = 13,        /* the guest may be stopped, and its device state saved, without a migration (vmm/qemu) */
    LEDGER_FDSET = 14,       /* a set of descriptors that may be left with the VMM, by its mark (vmm/qemu) */
    /* for what comes: 10 dirty bitmaps on disks, 11 NBD exports, 12 limits set on disks */
};

/* What keeps the guest from its full speed, or from running at all, until we let it go: bits. */
enum ledger_standing {
    LEDGER_STOPPED = 1 << 0,  /* the VMM was asked to stop it for the switchover */
    LEDGER_HELD = 1 << 1,     /* its vCPUs are held back */
    LEDGER_ATTACHED = 1 << 2, /* a thread of its VMM is stopped by ptrace */
    LEDGER_SERVED = 1 << 3,   /* its faults wait for us (the sync tracker) */
};

struct ledger;

struct ledger_moved {
    uint32_t from, to; /* enum ledger_owner */
    int64_t at;        /* clock_wall() */
};

/* Takes the guest of the process `pid`, started at `start` (process_start_time()), for this process and those forked
 * from it. -1/NULL with ERROR_REFUSED when another godwit has it, or when a record lies there that cannot be read.
 * `pid` 0: a record that is memory only, and no lock (the VMM's process is not known; tests). */
struct ledger *ledger_open(pid_t pid, uint64_t start, struct error *err);
/* Gives it up in this process. The file goes when `last` is set (no other process of ours has it) and it says nothing
 * that anybody will want to know: nothing is set, and the guest is where it was. */
void ledger_close(struct ledger *l, bool last);

/* The file, "" for none: for messages. */
const char *ledger_path(const struct ledger *l);
/* Whether open() found a record that an engine left which is dead: of which side, and what is in it, can be read as if
 * it were ours, until ledger_begin(). */
bool ledger_was_left(const struct ledger *l);
/* A new record of this side: nothing is set, the source may run the guest. What was found is gone. */
void ledger_begin(struct ledger *l, enum ledger_side side);
enum ledger_side ledger_side(const struct ledger *l);

/* Who may run the guest. */
enum ledger_owner ledger_owner(const struct ledger *l);
const char *ledger_owner_name(enum ledger_owner owner);
/* The one function that moves it. On disk when it returns 0, but for the one move that moves.c names. -1: the move is
 * not in the table, or could not be written (a full disk): then nothing has moved. */
int ledger_move(struct ledger *l, enum ledger_owner to, struct error *err);
/* The guest has run at the destination: from then on DESTINATION is the end. Waits for no disk. */
void ledger_note_ran(struct ledger *l);
bool ledger_has_run(const struct ledger *l);
/* When it came to be there: clock_wall(), 0 if it never moved. */
int64_t ledger_moved_at(const struct ledger *l);

/* Entries. add() gives room for a payload of `size` bytes, zeros, not set; it is never freed, so look for one of that
 * kind first (next() of NULL). NULL when the record is full. Payloads begin at multiples of 8 and hold no pointers. */
void *ledger_add(struct ledger *l, enum ledger_kind kind, size_t size, struct error *err);
/* The next entry of that kind with at least `size` bytes behind `last` (NULL: the first); set or not. */
void *ledger_next(const struct ledger *l, enum ledger_kind kind, size_t size, const void *last);
/* From here on it counts, or no longer. */
void ledger_set(void *payload, bool set);
bool ledger_is_set(const void *payload);
/* Whether anything is set that must be undone; moves are not. */
bool ledger_has_work(const struct ledger *l);

/* The engine's main wait, and all long waits of its main thread, call this: a number in shared memory, so as often as
 * one likes. NULL is allowed. */
void ledger_beat(struct ledger *l);
/* ns since the last beat, by clock_now() of whoever asks. */
int64_t ledger_silence(const struct ledger *l);
/* Sets before, and clears after, what keeps the guest standing still; a beat too. */
void ledger_stand(struct ledger *l, enum ledger_standing what, bool stands);
unsigned ledger_standing(const struct ledger *l);
/* While the guest is nobody's, or on its way: when the engine says at the latest how it is, clock_now(); 0: nobody
 * waits for that. One that has not by then hangs. */
void ledger_word_by(struct ledger *l, int64_t at);
bool ledger_word_is_overdue(const struct ledger *l);

#endif
