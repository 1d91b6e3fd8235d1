/* SPDX-License-Identifier: Apache-2.0 */
/* The destination halves of the stages. Everything in `args` comes from the other side and is checked here. */
#include "migrate/destination_stages.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "migrate/destination_parts.h"

#include <unistd.h>

#define CHANNEL_PATIENCE (30 * CLOCK_S)
#define LOAD_TIMEOUT (100 * CLOCK_S)

/* A source of before there was a choice says nothing of it. */
static int take_way(struct destination *d, const json_t *args, json_t *reply, struct error *err) {
    const json_t *theirs = json_object_get(args, "way");
    const char *name = json_string_value(theirs);
    int way = theirs == NULL ? VMM_WAY_SKIP : name == NULL ? -1 : vmm_way_find(name);
    if (way < 0) {
        return error_set(err, ERROR_REFUSED,
                         "the source wants to send the device state in a way that is not known here: the receiver is "
                         "an older godwit");
    }
    d->vmm->way = (enum vmm_way)way;
    json_object_set_new(reply, "way", json_string(vmm_way_names[way]));
    return 0;
}

int destination_inspect(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    json_t *guest = json_object_get(args, "guest");
    if (params_merge(&d->params, json_object_get(args, "params"), err) < 0) {
        return -1;
    }
    if (d->params.value[PARAM_CHECK_DISKS] == 0) {
        json_object_del(guest, "disks");
    }
    if (vmm_match(d->vmm, guest, err) < 0 || take_way(d, args, reply, err) < 0) {
        return -1;
    }
    json_t *own = d->vmm->ops->agree(d->vmm, guest, err);
    if (own == NULL) {
        return -1;
    }
    json_object_set_new(reply, "own-ram", own);
    link_set_timeout(d->caller.link, d->params.value[PARAM_LINK_TIMEOUT] * CLOCK_S);
    if (takeover_move(&d->takeover, TAKEOVER_RECEIVING, err) < 0) {
        return -1;
    }
    visitors_make_way(&d->visitors);
    loop_disarm(&d->loop, &d->ends.nobody);
    json_object_set_new(reply, "params", params_json(&d->params, true));
    json_object_set_new(reply, "limits", params_json(&d->config->params, false));
    return 0;
}

static int wait_for_channels(struct destination *d, unsigned want, struct error *err) {
    int64_t deadline = clock_now() + CHANNEL_PATIENCE;
    while (d->caller.channel_count < want || d->caller.device.fd < 0) {
        if (clock_now() >= deadline) {
            return error_set(err, ERROR_LINK, "only %u of %u channels came", d->caller.channel_count, want);
        }
        if (loop_turn(&d->loop, deadline - clock_now(), err) < 0) {
            return -1;
        }
    }
    return 0;
}

int destination_attach(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    json_int_t channels = json_integer_value(json_object_get(args, "channels"));
    if (channels < 1 || channels > CALLER_CHANNELS) {
        return error_set(err, ERROR_PEER, "the source wants %lld channels; 1..%d are possible", (long long)channels,
                         CALLER_CHANNELS);
    }
    if (devices_open(&d->ram.devices, &d->params, false, err) < 0 ||
        wait_for_channels(d, (unsigned)channels, err) < 0 ||
        destination_ram_open(&d->ram, d->vmm, &d->params, json_string_value(json_object_get(args, "digest-key")), err) <
            0) {
        return -1;
    }
    status_note(&d->status, &d->status.sent.ram_total, ram_pages(&d->ram.ram) * RAM_PAGE_SIZE);
    return 0;
}

/* Before the source stops its guest: the VMM waits for the device state. What comes early (the VMM's own small RAM)
 * may be loaded early; the device state itself the source holds back until all guest memory is here. */
int destination_stop(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)args;
    (void)reply;
    destination_ram_hurry(&d->ram);
    CLEANUP_CLOSE int vmm_end = -1;
    if (takeover_move(&d->takeover, TAKEOVER_LOADING, err) < 0 ||
        relay_open(&d->relay, RELAY_FROM_WIRE, d->caller.device.fd, NULL, &vmm_end, err) < 0) {
        return -1;
    }
    return d->vmm->ops->load_begin(d->vmm, vmm_end, err);
}

/* Before the guest is stopped: what is still in the sockets' buffers would be placed while it stands still. */
int destination_iterate(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    return destination_ram_await(&d->ram, json_integer_value(json_object_get(args, "pass")), err);
}

int destination_final(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)reply;
    return destination_ram_await(&d->ram, json_integer_value(json_object_get(args, "pass")), err);
}

int destination_device(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    (void)args;
    (void)reply;
    if (ram_receive_rejected(d->ram.receive) > 0) {
        return error_set(err, ERROR_PEER,
                         "the source goes on although pages are missing that were spoiled on its side");
    }
    destination_ram_placed(&d->ram);
    if (d->vmm->ops->wait_loaded(d->vmm, LOAD_TIMEOUT, err) < 0) {
        return -1;
    }
    status_note(&d->status, &d->status.sent.device_state, atomic_load(&d->relay.bytes));
    /* From here on only the source's word ends it. */
    loop_unwatch(&d->loop, &d->ends.signal);
    loop_unwatch(&d->loop, &d->ends.cancel);
    return takeover_move(&d->takeover, TAKEOVER_LOADED, err);
}

int destination_run(struct destination *d, json_t *args, json_t *reply, struct error *err) {
    bool run = d->params.value[PARAM_AUTOSTART] != 0 && json_is_true(json_object_get(args, "running"));
    if (takeover_move(&d->takeover, TAKEOVER_ASKED, err) < 0 || (run && d->vmm->ops->run(d->vmm, err) < 0)) {
        return -1;
    }
    if (run) {
        takeover_ran(&d->takeover);
    } else {
        log_info("the guest is complete and stays paused; 'cont' on its monitor lets it run");
    }
    json_object_set_new(reply, "running", json_boolean(run));
    return takeover_move(&d->takeover, TAKEOVER_DONE, err);
}
