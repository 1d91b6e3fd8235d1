/* SPDX-License-Identifier: Apache-2.0 */
/* The destination halves of the stages. Everything in `args` comes from the other side and is checked here. */
#include "migrate/destination.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNEL_PATIENCE (30 * CLOCK_S)
#define LOAD_TIMEOUT (100 * CLOCK_S)

int destination_inspect(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    if (params_merge(&d->params, json_object_get(args, "params"), err) < 0 ||
        vmm_match(d->vmm, json_object_get(args, "guest"), err) < 0) {
        return -1;
    }
    link_set_timeout(d->link, d->params.value[PARAM_LINK_TIMEOUT] * CLOCK_S);
    d->inspected = true;
    json_object_set_new(reply, "params", params_json(&d->params, true));
    json_object_set_new(reply, "limits", params_json(&d->config->params, false));
    return 0;
}

static int wait_for_channels(struct destination *d, unsigned want, struct error *err) {
    int64_t deadline = clock_now() + CHANNEL_PATIENCE;
    while (d->channel_count < want || d->device.fd < 0) {
        if (destination_poll(d, -1, deadline - clock_now(), err) < 0) {
            return -1;
        }
        if (clock_now() > deadline) {
            return error_set(err, ERROR_LINK, "only %u of %u channels came", d->channel_count, want);
        }
    }
    return 0;
}

static int open_ram(struct destination *d, struct error *err) {
    if (ram_init(&d->ram, d->vmm->ram_count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < d->vmm->ram_count; i++) {
        const struct vmm_ram *r = &d->vmm->ram[i];
        if (ram_open_destination(&d->ram, i, r->id, r->size, r->page_size, r->fd, err) < 0 ||
            ram_make_empty(&d->ram.blocks[i], err) < 0) {
            return -1;
        }
    }
    status_note(&d->status, &d->status.ram_total, ram_pages(&d->ram) * RAM_PAGE_SIZE);
    return 0;
}

/* Decoding is several times as fast as compressing, and its threads share the placing, which the kernel bounds. */
static unsigned decode_threads(const struct destination *d) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t set = d->params.value[PARAM_DECOMPRESS_THREADS];
    return set != PARAM_AUTO ? (unsigned)set : cpus < 1 ? 1 : cpus < 4 ? (unsigned)cpus : 4;
}

int destination_attach(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    json_int_t channels = json_integer_value(json_object_get(args, "channels"));
    if (channels < 1 || channels > DESTINATION_CHANNELS) {
        return error_set(err, ERROR_PEER, "the source wants %lld channels; 1..%d are possible", (long long)channels,
                         DESTINATION_CHANNELS);
    }
    if (digest_key_parse(&d->key, json_string_value(json_object_get(args, "digest-key"))) < 0) {
        return error_set(err, ERROR_PEER, "the source sends no key for digests");
    }
    if (devices_open(&d->devices, &d->params, false, err) < 0) {
        return -1;
    }
    if (wait_for_channels(d, (unsigned)channels, err) < 0 || open_ram(d, err) < 0) {
        return -1;
    }
    d->attached = true;
    struct ram_receive_config config = { .channels = d->channel_count,
                                         .decode_threads = decode_threads(d),
                                         .pages_per_batch = (unsigned)d->params.value[PARAM_PAGES_PER_BATCH],
                                         .conns = d->channels,
                                         .key = &d->key,
                                         .pace = &d->pace,
                                         .accel = d->devices.accel };
    d->receive = ram_receive_open(&d->ram, &config, err);
    return d->receive != NULL ? 0 : -1;
}

/* Before the source stops its guest: the VMM waits for the device state. What comes early (the VMM's own small RAM)
 * may be loaded early; the device state itself the source holds back until all guest memory is here. */
int destination_stop(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)args;
    (void)reply;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return error_errno(err, ERROR_SYSTEM, "socketpair");
    }
    CLEANUP_CLOSE int vmm_end = ends[1];
    d->loading = true;
    cpu_pace_lift(&d->pace, true); /* from here on each wait is the guest's */
    ram_receive_set_urgent(d->receive);
    /* A copy: with its own the link breaks the relay off when it breaks itself. */
    int wire = fcntl(d->device.fd, F_DUPFD_CLOEXEC, 0);
    if (wire < 0) {
        close(ends[0]);
        return error_errno(err, ERROR_SYSTEM, "dup");
    }
    if (relay_start(&d->relay, wire, ends[0], err) < 0) {
        return -1;
    }
    return d->vmm->ops->load_begin(d->vmm, vmm_end, err);
}

int destination_tell_rejections(struct destination *d, struct error *err) {
    struct ram_rejection *n;
    while (d->receive != NULL && (n = ram_receive_take_rejection(d->receive)) != NULL) {
        CLEANUP_FREE struct ram_rejection *taken = n;
        json_t *runs = json_array();
        for (uint32_t i = 0; i < taken->runs; i++) {
            json_array_append_new(runs, json_integer((json_int_t)taken->run[i].first));
            json_array_append_new(runs, json_integer((json_int_t)taken->run[i].count));
        }
        log_debug("a batch that device %u of the source made is spoiled", taken->device);
        json_t *message = json_pack("{s:s, s:i, s:i, s:o}", "type", "rejected", "block", (int)taken->block, "device",
                                    (int)taken->device, "runs", runs);
        if (link_send(d->link, message, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Waits until everything of the pass that the source names is in place, or the source was told what is not. */
static int wait_placed(struct destination *d, json_t *args, struct error *err) {
    json_int_t pass = json_integer_value(json_object_get(args, "pass"));
    if (pass < 1 || pass > UINT32_MAX) {
        return error_set(err, ERROR_PEER, "the source names the pass %lld, which cannot be", (long long)pass);
    }
    int placed;
    while ((placed = ram_receive_poll(d->receive, (uint32_t)pass, err)) == 0) {
        if (destination_poll(d, ram_receive_poll_fd(d->receive), CLOCK_S, err) < 0) {
            return -1;
        }
    }
    return placed < 0 ? -1 : destination_tell_rejections(d, err);
}

/* Before the guest is stopped: what is still in the sockets' buffers would be placed while it stands still. */
int destination_iterate(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    return wait_placed(d, args, err);
}

int destination_final(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    return wait_placed(d, args, err);
}

int destination_device(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)args;
    (void)reply;
    if (ram_receive_rejected(d->receive) > 0) {
        return error_set(err, ERROR_PEER,
                         "the source goes on although pages are missing that were spoiled on its side");
    }
    if (d->vmm->ops->wait_loaded(d->vmm, LOAD_TIMEOUT, err) < 0) {
        return -1;
    }
    status_note(&d->status, &d->status.device_state, atomic_load(&d->relay.bytes));
    d->loaded = true;
    return 0;
}

int destination_run(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    d->asked = true;
    bool run = d->params.value[PARAM_AUTOSTART] != 0 && json_is_true(json_object_get(args, "running"));
    if (run && d->vmm->ops->run(d->vmm, err) < 0) {
        return -1;
    }
    d->running = run;
    if (!run) {
        log_info("the guest is complete and stays paused; 'cont' on its monitor lets it run");
    }
    d->ran = true;
    json_object_set_new(reply, "running", json_boolean(run));
    return 0;
}
