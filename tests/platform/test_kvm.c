/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest under KVM writes is seen from another process: KVM maps guest memory through the process's page table,
 * so write-protection there reaches the guest. In a file that is mapped shared, and in memory of the process's own. */
#include "support.h"

#include "base/bits.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define GUEST_SIZE (UINT64_C(1) << 20)
#define GUEST_PAGES (GUEST_SIZE / SMALL_PAGE)
#define CODE_PAGE 1
#define FIRST_PAGE 16
#define PORT 0x10
/* What real mode reaches of a page, in its 16-byte paragraphs. */
#define PARAGRAPHS (SMALL_PAGE / 16)

/* cx pages from segment bx on, dx paragraphs apart, get ax as their first word; then it says so at the port. */
static const uint8_t guest_code[] = {
    0x8e, 0xc3,             /* again: mov es, bx */
    0x26, 0xa3, 0x00, 0x00, /*        mov es:[0], ax */
    0x01, 0xd3,             /*        add bx, dx */
    0xe2, 0xf6,             /*        loop again */
    0xe6, PORT,             /*        out PORT, al */
    0xf4,                   /*        hlt */
};

struct vm {
    int vm, vcpu;
    struct kvm_run *run;
    int run_size;
};

/* One run of the guest's loop. */
struct job {
    uint64_t page, count, step, value;
};

/* Shared with the child. */
struct guest {
    struct target target;
    struct job job;
    atomic_uint asked, done; /* job numbers */
    atomic_int state;        /* 0 starting, 1 ready, 2 no KVM */
    atomic_bool storm;       /* jobs of its own, without being asked */
    atomic_uint storms;      /* runs of the guest in that */
};

static bool vm_start(struct vm *vm, uint8_t *memory) {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    vm->vm = kvm >= 0 ? ioctl(kvm, KVM_CREATE_VM, 0) : -1;
    if (vm->vm < 0) {
        return false;
    }
    struct kvm_userspace_memory_region region = { .memory_size = GUEST_SIZE, .userspace_addr = (uintptr_t)memory };
    struct kvm_sregs sregs;
    if (ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return false;
    }
    vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0);
    vm->run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vm->vcpu < 0 || vm->run_size <= 0 || ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) < 0) {
        return false;
    }
    vm->run = mmap(NULL, (size_t)vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return vm->run != MAP_FAILED && ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) == 0;
}

static bool vm_run(const struct vm *vm, const struct job *job) {
    struct kvm_regs regs = {
        .rip = CODE_PAGE * SMALL_PAGE,
        .rflags = 2,
        .rax = job->value & 0xffff,
        .rbx = job->page * PARAGRAPHS,
        .rcx = job->count,
        .rdx = job->step * PARAGRAPHS,
    };
    if (ioctl(vm->vcpu, KVM_SET_REGS, &regs) < 0) {
        return false;
    }
    while (ioctl(vm->vcpu, KVM_RUN, 0) < 0) {
        if (errno != EINTR) { /* a ptrace stop */
            return false;
        }
    }
    return vm->run->exit_reason == KVM_EXIT_IO && vm->run->io.port == PORT;
}

static void vm_storm(struct guest *g, const struct vm *vm) {
    for (uint64_t i = 1; atomic_load(&g->storm); i++) {
        /* wanders over all pages, so that each run is another mix of fresh and protected ones */
        const struct job job = { .page = FIRST_PAGE + i * 7 % 64, .count = 30, .step = i % 5 + 1, .value = i };
        if (!vm_run(vm, &job)) {
            _exit(2);
        }
        atomic_fetch_add(&g->storms, 1);
    }
}

/* As QEMU has RAM of its own: in a 2 MiB page, if this host gives one. */
static bool map_private(const struct target *t) {
    void *map = mmap(t->memory, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return map == t->memory && madvise(map, HUGE_PAGE, MADV_HUGEPAGE) == 0;
}

static void run_guest(void *opaque) {
    struct guest *g = opaque;
    struct vm vm;
    if (g->target.kind == TRACKER_PRIVATE && !map_private(&g->target)) {
        _exit(3);
    }
    memcpy(g->target.memory + CODE_PAGE * SMALL_PAGE, guest_code, sizeof(guest_code));
    const struct job first = { .page = FIRST_PAGE, .count = 1, .step = 1, .value = 0xabcd };
    if (!vm_start(&vm, g->target.memory) || !vm_run(&vm, &first) ||
        *(const uint16_t *)(const void *)(g->target.memory + FIRST_PAGE * SMALL_PAGE) != 0xabcd) {
        atomic_store(&g->state, 2);
        return;
    }
    atomic_store(&g->state, 1);
    for (unsigned job = 1;;) {
        if (atomic_load(&g->storm)) {
            vm_storm(g, &vm);
        }
        if (atomic_load(&g->asked) != job) {
            clock_sleep(CLOCK_MS / 10);
            continue;
        }
        if (!vm_run(&vm, &g->job)) {
            _exit(2);
        }
        atomic_store(&g->done, job++);
    }
}

static void guest_ask(struct guest *g, struct job job) {
    g->job = job;
    unsigned number = atomic_fetch_add(&g->asked, 1) + 1;
    while (atomic_load(&g->done) != number) {
        assert_true(child_is_alive(g->target.pid));
        clock_sleep(CLOCK_MS / 10);
    }
}

static void guest_end(struct guest *g) {
    child_end(g->target.pid);
    munmap(g->target.memory, g->target.pages * SMALL_PAGE);
    if (g->target.file >= 0) {
        close(g->target.file);
    }
    shared_free(g, sizeof(*g));
}

/* The guest's memory, wherever its process has it. */
static void guest_peek(const struct guest *g, uint64_t offset, void *to, size_t size) {
    struct iovec local = { to, size }, remote = { g->target.memory + offset, size };
    assert_int_equal(process_vm_readv(g->target.pid, &local, 1, &remote, 1, 0), (ssize_t)size);
}

static uint16_t guest_word(const struct guest *g, uint64_t page) {
    uint16_t word;
    guest_peek(g, page * SMALL_PAGE, &word, sizeof(word));
    return word;
}

/* Addresses that the child maps its own memory at: a whole 2 MiB page, of which the guest has the first half. */
static void reserve_private(struct target *t) {
    uint8_t *area = mmap(NULL, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(area != MAP_FAILED);
    uint64_t before = (HUGE_PAGE - (uintptr_t)area % HUGE_PAGE) % HUGE_PAGE;
    if (before > 0) {
        munmap(area, before);
    }
    munmap(area + before + HUGE_PAGE, HUGE_PAGE - before);
    t->memory = area + before;
    t->pages = HUGE_PAGE / SMALL_PAGE;
}

static void share_memory(struct target *t) {
    t->file = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(t->file, GUEST_SIZE), 0);
    t->memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t->file, 0);
    assert_true(t->memory != MAP_FAILED);
    t->pages = GUEST_PAGES;
}

static struct guest *guest_start(enum tracker_memory kind) {
    struct guest *g = shared_alloc(sizeof(*g));
    struct target *t = &g->target;
    *t = (struct target){ .file = -1, .page_size = SMALL_PAGE, .kind = kind };
    if (kind == TRACKER_PRIVATE) {
        reserve_private(t);
    } else {
        share_memory(t);
    }
    t->pid = child_start(run_guest, g);
    while (atomic_load(&g->state) == 0) {
        /* one that cannot be a guest says so and ends, maybe between two looks of ours */
        assert_true(child_is_alive(t->pid) || atomic_load(&g->state) != 0);
        clock_sleep(CLOCK_MS);
    }
    if (atomic_load(&g->state) == 2) {
        guest_end(g);
        SKIP("/dev/kvm cannot be used here, or runs no guest in real mode");
    }
    return g;
}

static void writes(enum tracker_kind kind, enum tracker_memory memory) {
    struct guest *g = guest_start(memory);
    if (memory == TRACKER_PRIVATE) {
        print_message("%llu KiB in 2 MiB pages\n",
                      (unsigned long long)child_kib(g->target.pid, "smaps_rollup", "AnonHugePages"));
    }
    struct tracker *tracker = target_track(&g->target, kind);
    assert_found(&g->target, tracker, "");
    guest_ask(g, (struct job){ .page = 20, .count = 4, .step = 1, .value = 1 });
    assert_found(&g->target, tracker, "20-23");
    assert_found(&g->target, tracker, "");
    guest_ask(g, (struct job){ .page = 20, .count = 4, .step = 1, .value = 2 });
    assert_found(&g->target, tracker, "20-23");
    guest_ask(g, (struct job){ .page = 30, .count = 5, .step = 40, .value = 3 });
    assert_found(&g->target, tracker, "30 70 110 150 190");
    guest_ask(g, (struct job){ .page = FIRST_PAGE, .count = GUEST_PAGES - FIRST_PAGE, .step = 1, .value = 4 });
    assert_found(&g->target, tracker, "16-255");
    assert_found(&g->target, tracker, "");
    tracker_close(tracker);
    guest_ask(g, (struct job){ .page = 20, .count = 4, .step = 1, .value = 5 });
    assert_int_equal(guest_word(g, 20), 5);
    guest_end(g);
}

static void guest_writes(enum tracker_kind kind) {
    writes(kind, TRACKER_SHARED);
}
BOTH_KINDS(guest_writes)

static void private_writes(enum tracker_kind kind) {
    writes(kind, TRACKER_PRIVATE);
}
BOTH_KINDS(private_writes)

struct copy {
    const struct guest *guest;
    uint8_t memory[HUGE_PAGE];
};

static void copy_run(void *opaque, uint64_t start, uint64_t end) {
    struct copy *copy = opaque;
    uint64_t offset = start - target_start_address(&copy->guest->target);
    guest_peek(copy->guest, offset, copy->memory + offset, end - start);
}

/* The race test with a guest as the writer. */
static void storm(enum tracker_kind kind, enum tracker_memory memory) {
    struct guest *g = guest_start(memory);
    const struct target *t = &g->target;
    struct tracker *tracker = target_track(t, kind);
    struct copy *copy = calloc(1, sizeof(*copy));
    struct error err = { 0 };
    unsigned scans = 0;
    static uint8_t now[GUEST_SIZE];
    assert_non_null(copy);
    copy->guest = g;
    copy_run(copy, target_start_address(t), target_start_address(t) + GUEST_SIZE);
    atomic_store(&g->storm, true);
    for (int64_t end = clock_now() + CLOCK_S; clock_now() < end || atomic_load(&g->storms) < 100; scans++) {
        assert_true(child_is_alive(t->pid));
        assert_ok(tracker_scan(tracker, target_start_address(t), target_end_address(t), copy_run, copy, &err) == 0,
                  &err);
    }
    atomic_store(&g->storm, false);
    guest_ask(g, (struct job){ .page = 20, .count = 1, .step = 1, .value = 5 });
    assert_ok(tracker_scan(tracker, target_start_address(t), target_end_address(t), copy_run, copy, &err) == 0, &err);
    guest_peek(g, 0, now, sizeof(now));
    assert_memory_equal(copy->memory, now, GUEST_SIZE);
    print_message("%u scans, %u runs of the guest\n", scans, g->storms);
    tracker_close(tracker);
    free(copy);
    guest_end(g);
}

static void guest_storm(enum tracker_kind kind) {
    storm(kind, TRACKER_SHARED);
}
BOTH_KINDS(guest_storm)

static void private_storm(enum tracker_kind kind) {
    storm(kind, TRACKER_PRIVATE);
}
BOTH_KINDS(private_storm)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(guest_writes),
        BOTH_TESTS(guest_storm),
        BOTH_TESTS(private_writes),
        BOTH_TESTS(private_storm),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
