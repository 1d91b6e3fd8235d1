/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What remote.c needs to know of a processor to run a system call in a stopped thread. One file a processor.
 *
 * A call is prepared by pointing the thread at a system call instruction that is already in its memory. Nothing is ever
 * written there: code bytes would race with the other threads, and would stay behind if we died.
 */
#ifndef GODWIT_REMOTE_INJECT_H
#define GODWIT_REMOTE_INJECT_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct inject_regs {
    struct user_regs_struct regs;
};

/* Where a thread was stopped, worst first. It decides what happens when we are killed between two injected calls: the
 * thread then goes on behind the borrowed instruction, with our result and our first argument in its registers. */
enum inject_place {
    INJECT_PLACE_OTHER,   /* not behind a system call: it would run off */
    INJECT_PLACE_SYSCALL, /* behind some system call: it would take our result for that call's */
    INJECT_PLACE_WAIT,    /* behind ppoll and its like: a spurious wake-up, which every event loop must bear */
};

/* Reads and writes the registers of a stopped thread. Reading refuses a thread that runs 32-bit code. */
int inject_read(pid_t tid, struct inject_regs *regs, struct error *err);
int inject_write(pid_t tid, const struct inject_regs *regs, struct error *err);

/* The place where the thread with these registers stopped, and *site, the address of the instruction to borrow (only
 * set when the place is not INJECT_PLACE_OTHER). */
enum inject_place inject_place(pid_t tid, const struct inject_regs *regs, uint64_t *site);

/* Changes registers so that the thread makes system call `nr` with one argument at `site`, and forgets the call it was
 * in; touches no register beyond those that this needs. */
void inject_prepare(struct inject_regs *regs, uint64_t site, long nr, uint64_t argument);

/* At the entry stop of a call: its number. */
long inject_number(const struct inject_regs *regs);
/* At the exit stop: its result, negative errno on failure. */
int64_t inject_result(const struct inject_regs *regs);

/* The offset of a system call instruction in `code`, or -1. */
int64_t inject_find(const uint8_t *code, size_t length);

#endif
