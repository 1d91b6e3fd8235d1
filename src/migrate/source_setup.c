/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "migrate/injection.h"
#include "remote/remote.h"
#include "wire/connect.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_TIMEOUT (10 * CLOCK_S)

/* Waits until the receiver says something, so that a cancel counts meanwhile. */
static int await_answer(struct source *s, struct conn *c, struct error *err) {
    int64_t deadline = clock_now() + source_param(s, PARAM_LINK_TIMEOUT) * CLOCK_S;
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    while (poll(&p, 1, 0) == 0) {
        if (source_poll(s, c->fd, deadline - clock_now(), err) < 0) {
            return -1;
        }
        if (clock_now() > deadline) {
            return error_set(err, ERROR_LINK, "what listens there does not answer: is it 'godwit receive'?");
        }
    }
    return 0;
}

/* Whatever else the source hears counts while it connects too. */
static int wait_connecting(void *opaque, int fd, int64_t timeout_ns, struct error *err) {
    return source_poll(opaque, fd, timeout_ns, err);
}

/* The receiver may be about to start. */
static void say_waiting(void *opaque, const struct error *why) {
    struct source *s = opaque;
    log_warning("%s; trying again for up to %.0f s", why->desc, (double)s->config->wait / 1e9);
    events_emit(&s->events, "waiting", json_pack("{s:s}", "why", why->desc));
}

/* The first connection goes where the user says, and may have to wait for the receiver. All others go to the very host
 * that answered it: a name may have many addresses, and other hosts behind them. */
static int connect_receiver(struct source *s, struct error *err) {
    struct connect_how how = {
        .timeout = CONNECT_TIMEOUT, .wait = wait_connecting, .waiting = say_waiting, .opaque = s
    };
    struct address to = s->config->to;
    if (s->peer.link == NULL) {
        how.retry_until = clock_now() + s->config->wait;
    } else if (connect_peer(link_conn(s->peer.link)->fd, &s->config->to, &to, err) < 0) {
        return -1;
    }
    return connect_to(&to, &how, err);
}

/* One connection of this migration: connected, greeted, under the link's watch. */
static int open_connection(struct source *s, struct conn *c, const char *name, enum hello_role role, unsigned channel,
                           struct error *err) {
    int64_t timeout = source_param(s, PARAM_LINK_TIMEOUT) * CLOCK_S;
    int fd = connect_receiver(s, err);
    if (fd < 0) {
        return -1;
    }
    address_set_timeout(fd, timeout);
    conn_init(c, fd, name);
    struct hello hello = { .role = (uint8_t)role, .channel = (uint16_t)channel };
    memcpy(hello.session, s->peer.session, SESSION_SIZE);
    struct timeval patience = { .tv_sec = (time_t)source_param(s, PARAM_LINK_TIMEOUT) };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (hello_send(c, &hello, err) < 0 || await_answer(s, c, err) < 0 || hello_receive(c, &hello, err) < 0) {
        conn_close(c);
        return -1;
    }
    patience.tv_sec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    memcpy(s->peer.session, hello.session, SESSION_SIZE);
    if (s->peer.link != NULL) {
        link_watch(s->peer.link, c);
    }
    return 0;
}

int source_connect(struct source *s, struct error *err) {
    if (s->config->control_path != NULL) {
        s->control = control_open(s->config->control_path, &source_control_ops, s, err);
        if (s->control == NULL) {
            return -1;
        }
        guardian_note_file(&s->guardian, s->config->control_path);
    }
    struct conn c;
    if (open_connection(s, &c, "control", ROLE_CONTROL, 0, err) < 0) {
        return -1;
    }
    s->peer.link = link_open(c.fd, source_param(s, PARAM_LINK_TIMEOUT) * CLOCK_S, err);
    if (s->peer.link == NULL) {
        return -1;
    }
    source_wait_link(s);
    return 0;
}

/* The destination has agreed on the parameters: its answer holds. */
static int adopt_params(struct source *s, json_t *reply, struct error *err) {
    pthread_mutex_lock(&s->settings.lock);
    int rc = params_adopt(&s->settings.params, json_object_get(reply, "params"), err);
    if (rc == 0) {
        rc = params_from_peer(&s->settings.ceiling, json_object_get(reply, "limits"), "the destination's limits", err);
    }
    link_set_timeout(s->peer.link, s->settings.params.value[PARAM_LINK_TIMEOUT] * CLOCK_S);
    source_apply_params(s);
    pthread_mutex_unlock(&s->settings.lock);
    return rc;
}

/* A destination of before there was a choice says nothing of it, and waits for what there was then. */
static int adopt_way(struct source *s, const json_t *reply, enum vmm_way way, struct error *err) {
    const char *theirs = json_string_value(json_object_get(reply, "way"));
    bool agreed = theirs == NULL ? way != VMM_WAY_SAVE : vmm_way_find(theirs) == (int)way;
    if (!agreed) {
        return error_set(err, theirs == NULL ? ERROR_REFUSED : ERROR_PEER,
                         theirs == NULL ? "the receiver is an older godwit, which cannot take a device state that "
                                          "goes this way (device-state, \"%s\")"
                                        : "the destination has not agreed to the way of the device state (\"%s\")",
                         vmm_way_names[way]);
    }
    s->vmm->way = way;
    return 0;
}

static int choose_way(struct source *s, struct vmm_choice *choice, struct error *err) {
    static const char *const by[VMM_WAY_COUNT] = { [VMM_WAY_SKIP] = "QEMU's own migration, without the guest's RAM",
                                                   [VMM_WAY_SAVE] = "xen-save-devices-state",
                                                   [VMM_WAY_FILTER] = "QEMU's own migration, filtered" };
    enum vmm_wish wish = (enum vmm_wish)source_param(s, PARAM_DEVICE_STATE);
    if (vmm_choose(s->vmm, wish, choice, err) < 0) {
        return wish == VMM_WISH_SAVE ? error_prefix(err, "device-state=save: ") : -1;
    }
    log_info("the device state goes by %s: %s", by[choice->way], choice->why);
    events_emit(&s->events, "device-state",
                json_pack("{s:s, s:s}", "way", vmm_way_names[choice->way], "why", choice->why));
    status_note_way(&s->status, vmm_way_names[choice->way], choice->why);
    return 0;
}

/* Says what the guest is and in which way its state would go. A new reference to the answer; NULL on error. */
static json_t *introduce(struct source *s, enum vmm_way way, struct error *err) {
    json_t *description = s->vmm->ops->describe(s->vmm, err);
    json_t *reply = NULL;
    if (description == NULL) {
        return NULL;
    }
    json_t *args = json_pack("{s:o, s:o, s:s}", "guest", description, "params", params_json(&s->config->params, false),
                             "way", vmm_way_names[way]);
    return source_request(s, args, err) < 0 || source_await(s, REPLY_TIMEOUT, &reply, err) < 0 ? NULL : reply;
}

int source_inspect(struct source *s, struct error *err) {
    struct vmm_choice choice;
    if (vmm_inspect(s->vmm, VMM_SOURCE, err) < 0 ||
        s->vmm->ops->guest_running(s->vmm, &s->switchover.guest_was_running, err) < 0 ||
        choose_way(s, &choice, err) < 0) {
        return -1;
    }
    json_t *reply = introduce(s, choice.way, err);
    if (reply == NULL) {
        return -1;
    }
    int rc = adopt_params(s, reply, err) < 0 || adopt_way(s, reply, choice.way, err) < 0 ||
                     s->vmm->ops->adopt(s->vmm, json_object_get(reply, "own-ram"), err) < 0
                 ? -1
                 : 0;
    json_decref(reply);
    return rc;
}

static int connect_channels(struct source *s, struct error *err) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned want = (unsigned)source_param(s, PARAM_CHANNELS);
    if (want == 0) {
        want = cpus < 1 ? 1 : cpus < 4 ? (unsigned)cpus : 4;
    }
    s->peer.channels = calloc(want, sizeof(s->peer.channels[0]));
    if (s->peer.channels == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for %u channels", want);
    }
    for (unsigned i = 0; i < want; i++) {
        if (open_connection(s, &s->peer.channels[i], "a RAM channel", ROLE_CHANNEL, i, err) < 0) {
            return -1;
        }
        s->peer.channels[i].limit = &s->settings.limit;
        s->peer.channel_count++;
    }
    return open_connection(s, &s->peer.device, "the device channel", ROLE_DEVICE, 0, err);
}

static int open_ram(struct source *s, struct error *err) {
    if (view_open(&s->sender.view, s->vmm, &s->sender.ram, err) < 0 || view_watch_removals(&s->sender.view, err) < 0) {
        return -1;
    }
    status_note(&s->status, &s->status.sent.ram_total, ram_pages(&s->sender.ram) * RAM_PAGE_SIZE);
    return 0;
}

static int start_tracking(struct source *s, struct error *err) {
    /* from its first page on the sync tracker lets writers wait for us; which of the two it is shows when it is open */
    ledger_stand(s->vmm->ledger, LEDGER_SERVED, true);
    struct remote_witness witness = { injection_note, s->vmm->ledger };
    if (view_track(&s->sender.view, (enum tracker_kind)source_param(s, PARAM_TRACKER), &witness, err) < 0) {
        return -1;
    }
    const struct tracker *t = s->sender.view.tracker;
    ledger_stand(s->vmm->ledger, LEDGER_SERVED, tracker_kind(t) == TRACKER_SYNC);
    pthread_mutex_lock(&s->status.lock);
    s->status.attach_stop = tracker_stopped_ns(t);
    s->status.tracker = tracker_kind_name(tracker_kind(t));
    pthread_mutex_unlock(&s->status.lock);
    return 0;
}

static int ask_destination(struct source *s, struct error *err) {
    char key[DIGEST_KEY_TEXT_SIZE];
    if (digest_key_make(&s->sender.key, err) < 0) {
        return -1;
    }
    digest_key_format(&s->sender.key, key);
    json_t *args = json_pack("{s:i, s:s}", "channels", (int)s->peer.channel_count, "digest-key", key);
    return source_request(s, args, err);
}

static int open_sender(struct source *s, struct error *err) {
    source_plan_begin(s);
    uint64_t digests = source_param(s, PARAM_PAGE_DIGESTS) ? s->means.plan.digest_bytes : 0;
    if (ram_digests_open(&s->sender.ram, digests, err) < 0) {
        return -1;
    }
    struct ram_send_config config = { .channels = s->peer.channel_count,
                                      .pages_per_batch = (unsigned)source_param(s, PARAM_PAGES_PER_BATCH),
                                      .max_threads = source_plan_most_threads(s),
                                      .conns = s->peer.channels,
                                      .compression = &s->settings.compression,
                                      .key = &s->sender.key,
                                      .pace = &s->means.pace,
                                      .accel = s->sender.devices.accel };
    s->sender.send = ram_send_open(&s->sender.ram, &config, err);
    if (s->sender.send == NULL) {
        return -1;
    }
    ram_send_set_threads(s->sender.send, s->means.plan.compress_threads, s->means.plan.cpu_share);
    pthread_mutex_lock(&s->status.lock);
    s->status.counters = ram_send_counters(s->sender.send);
    pthread_mutex_unlock(&s->status.lock);
    return source_defer_open(s, err);
}

int source_attach(struct source *s, struct error *err) {
    if (devices_open(&s->sender.devices, &s->settings.params, true, err) < 0 || open_ram(s, err) < 0 ||
        connect_channels(s, err) < 0) {
        return -1;
    }
    if (ask_destination(s, err) < 0 || start_tracking(s, err) < 0 || s->vmm->ops->prepare(s->vmm, err) < 0 ||
        open_sender(s, err) < 0) {
        return -1;
    }
    source_converge_open(s);
    /* Looking for stale pages in a large preallocated file takes the destination its time. */
    return source_await(s, 10 * REPLY_TIMEOUT, NULL, err);
}
