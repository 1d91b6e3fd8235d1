/* SPDX-License-Identifier: Apache-2.0 */
#include "remote/inject.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* syscall */
static const uint8_t instruction[] = { 0x0f, 0x05 };

/* Event loops wait in these. Each may return early for reasons that its caller cannot know, so callers look again. */
static const long waiting_calls[] = {
    SYS_ppoll, SYS_poll, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_select, SYS_pselect6,
};

int inject_read(pid_t tid, struct inject_regs *regs, struct error *err) {
    struct iovec iov = { .iov_base = &regs->regs, .iov_len = sizeof(regs->regs) };
    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the registers of thread %d", (int)tid);
    }
    /* the kernel hands out the shorter set of 32-bit registers by the mode that the thread is in */
    if (iov.iov_len != sizeof(regs->regs)) {
        return error_set(err, ERROR_REFUSED, "process %d runs 32-bit code, godwit attaches to 64-bit processes only",
                         (int)tid);
    }
    return 0;
}

int inject_write(pid_t tid, const struct inject_regs *regs, struct error *err) {
    struct user_regs_struct copy = regs->regs;
    struct iovec iov = { .iov_base = &copy, .iov_len = sizeof(copy) };
    if (ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot write the registers of thread %d", (int)tid);
    }
    return 0;
}

enum inject_place inject_place(pid_t tid, const struct inject_regs *regs, uint64_t *site) {
    /* orig_rax is the call's number, and negative when the kernel was entered in another way */
    long nr = (long)regs->regs.orig_rax;
    uint64_t address = regs->regs.rip - sizeof(instruction);
    if (nr < 0) {
        return INJECT_PLACE_OTHER;
    }
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)address, NULL);
    if (errno != 0 || memcmp(&word, instruction, sizeof(instruction)) != 0) {
        return INJECT_PLACE_OTHER;
    }
    *site = address;
    for (size_t i = 0; i < sizeof(waiting_calls) / sizeof(waiting_calls[0]); i++) {
        if (waiting_calls[i] == nr) {
            return INJECT_PLACE_WAIT;
        }
    }
    return INJECT_PLACE_SYSCALL;
}

void inject_prepare(struct inject_regs *regs, uint64_t site, long nr, uint64_t argument) {
    regs->regs.rip = site;
    regs->regs.rax = (unsigned long)nr;
    regs->regs.rdi = argument;
    /* else the kernel would restart the interrupted call: move rip back and put its number into rax */
    regs->regs.orig_rax = ~0UL;
}

long inject_number(const struct inject_regs *regs) {
    return (long)regs->regs.orig_rax;
}

int64_t inject_result(const struct inject_regs *regs) {
    return (int64_t)regs->regs.rax;
}

int64_t inject_find(const uint8_t *code, size_t length) {
    const uint8_t *found = length > 0 ? memmem(code, length, instruction, sizeof(instruction)) : NULL;
    return found != NULL ? found - code : -1;
}
