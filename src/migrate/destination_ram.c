/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/destination_ram.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "remote/pin.h"
#include "view/memory.h"

#include <unistd.h>

/* Tells the source of batches that could not be placed. */
static int tell_rejections(struct destination_ram *r, struct error *err) {
    struct ram_rejection *n;
    while ((n = ram_receive_take_rejection(r->receive)) != NULL) {
        CLEANUP_FREE struct ram_rejection *taken = n;
        json_t *runs = json_array();
        for (uint32_t i = 0; i < taken->runs; i++) {
            json_array_append_new(runs, json_integer((json_int_t)taken->run[i].first));
            json_array_append_new(runs, json_integer((json_int_t)taken->run[i].count));
        }
        log_debug("a batch that device %u of the source made is spoiled", taken->device);
        json_t *message = json_pack("{s:s, s:i, s:i, s:o}", "type", "rejected", "block", (int)taken->block, "device",
                                    (int)taken->device, "runs", runs);
        if (link_send(r->caller->link, message, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int look(void *opaque, struct error *err) {
    struct destination_ram *r = opaque;
    return ram_receive_poll(r->receive, 0, err) < 0 ? -1 : tell_rejections(r, err);
}

void destination_ram_init(struct destination_ram *r, struct loop *loop, struct caller *caller, int64_t budget) {
    *r = (struct destination_ram){ .loop = loop, .caller = caller };
    cpu_pace_init(&r->pace, budget == PARAM_AUTO ? 0 : (unsigned)budget);
}

/* Before the blocks are opened, which see that the id is right. */
static void pin(struct destination_ram *r, const struct vmm *vmm) {
    struct error err = { 0 };
    bool needed = false;
    for (size_t i = 0; i < vmm->ram_count; i++) {
        needed = needed || vmm->ram[i].kind == VMM_RAM_MEMORY;
    }
    r->pin = needed && vmm->pid > 0 ? pin_open(vmm->pid, &err) : NULL;
    atomic_store(&r->pinned, r->pin != NULL);
    if (needed && r->pin == NULL) {
        log_info("memory is placed in the slower way: %s", err.desc);
    }
}

void destination_ram_placed(struct destination_ram *r) {
    atomic_store(&r->pinned, false);
    pin_close(r->pin);
    r->pin = NULL;
}

static int open_blocks(struct destination_ram *r, const struct vmm *vmm, struct error *err) {
    if (ram_init(&r->ram, vmm->ram_count, err) < 0) {
        return -1;
    }
    pin(r, vmm);
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (ram_open_destination(&r->ram, i, memory_open_to_place(&vmm->ram[i], vmm->pid, &r->pinned, err), err) < 0 ||
            ram_make_empty(&r->ram.blocks[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Decoding is several times as fast as compressing, and its threads share the placing, which the kernel bounds. */
static unsigned decode_threads(const struct params *params) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t set = params->value[PARAM_DECOMPRESS_THREADS];
    return set != PARAM_AUTO ? (unsigned)set : cpus < 1 ? 1 : cpus < 4 ? (unsigned)cpus : 4;
}

int destination_ram_open(struct destination_ram *r, const struct vmm *vmm, const struct params *params, const char *key,
                         struct error *err) {
    if (digest_key_parse(&r->key, key) < 0) {
        return error_set(err, ERROR_PEER, "the source sends no key for digests");
    }
    if (open_blocks(r, vmm, err) < 0) {
        return -1;
    }
    struct ram_receive_config config = { .channels = r->caller->channel_count,
                                         .decode_threads = decode_threads(params),
                                         .pages_per_batch = (unsigned)params->value[PARAM_PAGES_PER_BATCH],
                                         .conns = r->caller->channels,
                                         .key = &r->key,
                                         .pace = &r->pace,
                                         .accel = r->devices.accel };
    r->receive = ram_receive_open(&r->ram, &config, err);
    if (r->receive == NULL) {
        return -1;
    }
    r->watch = (struct loop_watch){ .fd = ram_receive_poll_fd(r->receive), .ready = look, .opaque = r };
    loop_watch(r->loop, &r->watch);
    load_report_start(&r->load, r->loop, r->caller->link, r->receive);
    return 0;
}

int destination_ram_await(struct destination_ram *r, json_int_t pass, struct error *err) {
    if (pass < 1 || pass > UINT32_MAX) {
        return error_set(err, ERROR_PEER, "the source names the pass %lld, which cannot be", (long long)pass);
    }
    int placed;
    while ((placed = ram_receive_poll(r->receive, (uint32_t)pass, err)) == 0) {
        if (loop_turn(r->loop, INT64_MAX, err) < 0) {
            return -1;
        }
    }
    return placed < 0 ? -1 : tell_rejections(r, err);
}

void destination_ram_hurry(struct destination_ram *r) {
    load_report_stop(&r->load);
    cpu_pace_lift(&r->pace, true);
    ram_receive_set_urgent(r->receive);
}

bool destination_ram_failure(struct destination_ram *r, struct error *err) {
    struct error found = { 0 };
    if (r->receive == NULL || ram_receive_poll(r->receive, 0, &found) >= 0 || found.class == ERROR_LINK) {
        return false;
    }
    *err = found;
    return true;
}

void destination_ram_close(struct destination_ram *r) {
    load_report_stop(&r->load);
    loop_unwatch(r->loop, &r->watch);
    cpu_pace_end(&r->pace);
    ram_receive_close(r->receive);
    r->receive = NULL;
    destination_ram_placed(r);
    devices_close(&r->devices);
    cpu_pace_destroy(&r->pace);
    ram_free(&r->ram);
}
