/* SPDX-License-Identifier: Apache-2.0 */
/* The destination side of one migration. */
#ifndef GODWIT_MIGRATE_DESTINATION_H
#define GODWIT_MIGRATE_DESTINATION_H

#include "base/clock.h"
#include "base/error.h"
#include "host/pace.h"
#include "migrate/control.h"
#include "migrate/devices.h"
#include "migrate/events.h"
#include "migrate/relay.h"
#include "migrate/status.h"
#include "params/params.h"
#include "ram/block.h"
#include "ram/receive.h"
#include "vmm/vmm.h"
#include "wire/address.h"
#include "wire/hello.h"
#include "wire/link.h"

#include <stdbool.h>
#include <stdint.h>

struct destination_config {
    struct vmm *vmm; /* opened, not yet inspected; not owned */
    struct address listen;
    struct params params;
    const char *events_path, *control_path; /* NULL: none */
    int signal_fd;
};

#define MEASURE_PARTS 5

/* Somebody who has connected and not yet said a whole hello. */
struct visitor {
    int fd; /* -1: free */
    char peer[80];
    uint8_t hello[HELLO_SIZE];
    unsigned have;
    int64_t deadline; /* clock_now() */
    struct measuring {
        bool on, told;             /* it measures the link; it was told the result */
        uint64_t seen, bytes;      /* in all; in this part */
        int64_t begun, counted_at; /* clock_now(): the first bytes came; this part began; 0: not yet */
        unsigned count;
        struct measured parts[MEASURE_PARTS];
    } measuring;
};

#define DESTINATION_VISITORS 32
#define DESTINATION_CHANNELS 64

struct destination {
    const struct destination_config *config;
    struct vmm *vmm;
    struct params params;
    struct status status;
    struct events events;
    struct control *control;
    int cancel_fd; /* eventfd: the control thread wants the migration to end */
    int listener;
    struct visitor visitors[DESTINATION_VISITORS];
    struct refusals {
        int64_t second; /* clock_now() at which this second began */
        unsigned said;  /* in it */
    } refusals;

    /* The one migration that is served. */
    uint8_t session[SESSION_SIZE];
    struct link *link; /* NULL: nobody has come yet */
    struct conn channels[DESTINATION_CHANNELS];
    unsigned channel_count; /* connected */
    struct conn device;     /* fd -1: not connected; the relay has a copy of it */
    bool inspected, attached;
    int stage;       /* index of the last stage that was served, -1 */
    json_t *request; /* taken from the link, not yet served */

    struct ram ram;
    struct digest_key key;
    struct cpu_pace pace; /* follows cpu-budget */
    struct devices devices;
    struct ram_receive *receive;
    int64_t load_due; /* clock_now() at which the source is told again */
    struct destination_cost {
        uint64_t bytes, ns;
    } told[2 + CODEC_COUNT]; /* what it was told of */
    struct relay relay;

    bool loading;  /* the VMM has been given a device state to read */
    bool loaded;   /* we have said so: from here on only the source's word counts */
    bool given_up; /* the source's word: it has not handed the guest over and never will */
    bool asked;    /* to run the guest: the source has handed it over */
    bool running;  /* 'cont' was sent for it */
    bool ran;      /* the migration is complete here */
    bool finished; /* the source has said goodbye */
};

/* Serves one migration. Returns the exit status (0, 1, 3) and the report of --json in *report. */
int destination_serve(const struct destination_config *config, json_t **report);

/* destination_measure.c: the visitor measures the link from now on; there is something to read of it. */
enum measuring_state { MEASURING_ON, MEASURING_DONE, MEASURING_LEFT };
void measuring_begin(struct visitor *v);
enum measuring_state measuring_read(struct visitor *v);

/* destination_load.c: tells the source what receiving costs, when it is time to. */
#define LOAD_INTERVAL (250 * CLOCK_MS)
int destination_tell_load(struct destination *d, struct error *err);

/* destination_stages.c: tells the source of batches that could not be placed. */
int destination_tell_rejections(struct destination *d, struct error *err);

/* Stages (stage.c). */
int destination_inspect(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_attach(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_iterate(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_stop(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_final(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_device(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_run(struct destination *d, json_t *args, json_t *reply, struct error *err);

/* The one place where the destination waits: polls once, at most `timeout_ns`, for `fd` (or -1), visitors, messages of
 * the source, the VMM and signals. -1 when the migration must end. */
int destination_poll(struct destination *d, int fd, int64_t timeout_ns, struct error *err);

/* destination_control.c */
extern const struct control_ops destination_control_ops;

/* destination_visitors.c: who connects. */
#define VISITOR_POLL_FDS (DESTINATION_VISITORS + 1)
struct pollfd;
void visitors_init(struct destination *d);
/* Fills VISITOR_POLL_FDS entries; handles what poll() found in them. -1 only on our own failure. */
void visitors_prepare(struct destination *d, struct pollfd *p);
int visitors_handle(struct destination *d, const struct pollfd *p, struct error *err);
void visitors_close(struct destination *d);

#endif
