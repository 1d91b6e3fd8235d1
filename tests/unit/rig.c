/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "base/bits.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static void open_ram(struct ram *ram, bool source, const struct rig_plan *plan) {
    struct error err = { 0 };
    assert_ok(ram_init(ram, plan->blocks, &err) == 0, &err);
    for (size_t i = 0; i < plan->blocks; i++) {
        uint64_t size = plan->block_pages[i] * RAM_PAGE_SIZE;
        int fd = tmpfs_file(size);
        int rc = source ? ram_open_source(ram, i, backing_on(fd, size, RAM_PAGE_SIZE, false), &err)
                        : ram_open_destination(ram, i, backing_on(fd, size, RAM_PAGE_SIZE, true), &err);
        assert_ok(rc == 0, &err);
    }
}

static void close_ram(struct ram *ram) {
    for (size_t i = 0; i < ram->count; i++) {
        close(backing_fd(ram->blocks[i].backing));
    }
    ram_free(ram);
}

const struct digest_key *rig_key(void) {
    static struct digest_key key;
    uint64_t seed = 1;
    if (key.secret[0] == 0) {
        random_fill(&seed, key.secret, sizeof(key.secret));
        key.secret[0] = 1;
    }
    return &key;
}

void rig_open(struct rig *r, const struct rig_plan *plan) {
    struct error err = { 0 };
    *r = (struct rig){ .channels = plan->channels, .pages_per_batch = plan->pages_per_batch };
    atomic_store(&r->compression.codec, plan->codec);
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        atomic_store(&r->compression.level[id], 1);
    }
    atomic_store(&r->compression.bypass, true);
    atomic_store(&r->compression.zero_detection, true);
    open_ram(&r->source, true, plan);
    open_ram(&r->destination, false, plan);
    for (unsigned i = 0; i < plan->channels; i++) {
        int ends[2];
        /* What a test writes by hand it writes before it looks: that must not depend on the receiver's reading. */
        socket_pair(ends, plan->no_sender ? 0 : 16384);
        conn_init(&r->to[i], ends[0], "sender");
        conn_init(&r->from[i], ends[1], "receiver");
    }
    const struct ram_receive_config receive = { plan->channels, plan->threads ? plan->threads : 2,
                                                plan->pages_per_batch, r->from, rig_key() };
    r->receive = ram_receive_open(&r->destination, &receive, &err);
    assert_ok(r->receive != NULL, &err);
    if (!plan->no_sender) {
        uint64_t digests = plan->no_digests ? 0 : ram_pages(&r->source) * sizeof(struct page_digest);
        assert_ok(ram_digests_open(&r->source, digests, &err) == 0, &err);
        const struct ram_send_config config = { plan->channels,        plan->threads ? plan->threads : 2,
                                                plan->pages_per_batch, r->to,
                                                &r->compression,       rig_key() };
        r->send = ram_send_open(&r->source, &config, &err);
        assert_ok(r->send != NULL, &err);
        ram_send_set_cache(r->send, plan->cache);
    }
}

void rig_close(struct rig *r) {
    for (unsigned i = 0; i < r->channels; i++) {
        conn_break(&r->to[i]);
        conn_break(&r->from[i]);
    }
    ram_send_close(r->send);
    ram_receive_close(r->receive);
    for (unsigned i = 0; i < r->channels; i++) {
        conn_close(&r->to[i]);
        conn_close(&r->from[i]);
    }
    close_ram(&r->source);
    close_ram(&r->destination);
}

static void wait_readable(int a, int b) {
    struct pollfd p[2] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };
    assert_true(poll(p, b < 0 ? 1 : 2, 40000) > 0);
}

int rig_wait_received(struct rig *r, uint32_t pass, struct error *err) {
    int rc;
    while ((rc = ram_receive_poll(r->receive, pass, err)) == 0) {
        wait_readable(ram_receive_poll_fd(r->receive), -1);
    }
    return rc < 0 ? -1 : 0;
}

int rig_pass(struct rig *r, struct error *err) {
    assert_int_equal(ram_send_start(r->send, true), ++r->pass);
    for (;;) {
        int received = ram_receive_poll(r->receive, r->pass, err);
        int sent = received < 0 ? -1 : ram_send_poll(r->send, err);
        if (received < 0 || sent < 0) {
            return -1;
        }
        if (received > 0 && sent > 0) {
            return 0;
        }
        wait_readable(received > 0 ? ram_send_fd(r->send) : ram_receive_poll_fd(r->receive),
                      sent > 0 ? -1 : ram_send_fd(r->send));
    }
}

void rig_write(struct rig *r, size_t block, uint64_t page, const uint8_t *data) {
    struct ram_block *b = &r->source.blocks[block];
    off_t at = (off_t)(page * RAM_PAGE_SIZE);
    if (data != NULL) {
        assert_int_equal(pwrite(backing_fd(b->backing), data, RAM_PAGE_SIZE, at), RAM_PAGE_SIZE);
    } else {
        assert_int_equal(
            fallocate(backing_fd(b->backing), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, RAM_PAGE_SIZE), 0);
    }
    bits_set(b->dirty, page);
}

void rig_assert_equal(struct rig *r) {
    uint8_t a[RAM_PAGE_SIZE], b[RAM_PAGE_SIZE];
    struct error err = { 0 };
    for (size_t i = 0; i < r->source.count; i++) {
        for (uint64_t page = 0; page < r->source.blocks[i].pages; page++) {
            assert_ok(ram_read(&r->source.blocks[i], page, 1, a, &err) == 0, &err);
            assert_ok(ram_read(&r->destination.blocks[i], page, 1, b, &err) == 0, &err);
            if (memcmp(a, b, sizeof(a)) != 0) {
                fail_msg("pass %u: page %llu of block %zu differs", r->pass, (unsigned long long)page, i);
            }
        }
    }
}

const uint8_t *rig_placed(struct rig *r, size_t block, uint64_t page) {
    static uint8_t bytes[RAM_PAGE_SIZE];
    struct error err = { 0 };
    assert_ok(ram_read(&r->destination.blocks[block], page, 1, bytes, &err) == 0, &err);
    return bytes;
}
