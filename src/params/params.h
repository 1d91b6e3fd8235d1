/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parameters of a migration: one table with name, range, default, and how the two sides agree on a value.
 * Names are QEMU's where QEMU has the thing, else those of the project's seeds.
 */
#ifndef GODWIT_PARAMS_PARAMS_H
#define GODWIT_PARAMS_PARAMS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum param {
    PARAM_DOWNTIME_LIMIT,  /* ms */
    PARAM_STOP_LIMIT,      /* ms, 0: none, or PARAM_AUTO */
    PARAM_MAX_BANDWIDTH,   /* bytes/s, 0: none */
    PARAM_CHANNELS,        /* 0: auto */
    PARAM_PAGES_PER_BATCH, /* of 4 KiB */
    PARAM_COMPRESSION,     /* enum param_compression */
    PARAM_LZ4_ACCELERATION,
    PARAM_ZSTD_LEVEL,
    PARAM_DEFLATE_LEVEL,
    PARAM_COMPRESS_THREADS,    /* or PARAM_AUTO */
    PARAM_DECOMPRESS_THREADS,  /* or PARAM_AUTO */
    PARAM_BYPASS_COMPRESSION,  /* enum param_bypass */
    PARAM_XBZRLE_CACHE_SIZE,   /* bytes, or PARAM_AUTO */
    PARAM_PAGE_DIGESTS,        /* bool */
    PARAM_ZERO_PAGE_DETECTION, /* bool */
    PARAM_ACCEL_DEVICES,       /* text */
    PARAM_ACCEL_INSTANCES,     /* of each device, or PARAM_AUTO */
    PARAM_CPU_BUDGET,          /* percent of one CPU, or PARAM_AUTO */
    PARAM_CPU_AFFINITY,        /* text */
    PARAM_MEMORY_BUDGET,       /* bytes, or PARAM_AUTO */
    PARAM_THROTTLE_POLICY,     /* enum converge_policy */
    PARAM_THROTTLE_ACTUATOR,   /* enum throttle_kind */
    PARAM_THROTTLE_TRIGGER_THRESHOLD,
    PARAM_CPU_THROTTLE_INITIAL,
    PARAM_CPU_THROTTLE_INCREMENT,
    PARAM_MAX_CPU_THROTTLE,   /* percent, all four */
    PARAM_COMPLETION_TIMEOUT, /* s, 0: none */
    PARAM_PROGRESS_TIMEOUT,   /* s, 0: none */
    PARAM_TIMEOUT_ACTION,     /* enum converge_timeout */
    PARAM_RAM_DELAY_SAVE_PERCENT,
    PARAM_RAM_SEGMENT_SIZE, /* bytes, 0: no segments wait */
    PARAM_TRACKER,          /* enum tracker_kind */
    PARAM_DEVICE_STATE,     /* enum vmm_wish */
    PARAM_LINK_TIMEOUT,     /* s */
    PARAM_CHECK_DISKS,      /* bool */
    PARAM_AUTOSTART,        /* bool */
    PARAM_SOURCE_QUIT,      /* bool */
    PARAM_COUNT,
};

/* The value of a number that was left to the engine: the word "auto". */
#define PARAM_AUTO (-1)

enum param_compression {
    PARAM_COMPRESSION_AUTO,
    PARAM_COMPRESSION_NONE,
    PARAM_COMPRESSION_LZ4,
    PARAM_COMPRESSION_ZSTD,
    PARAM_COMPRESSION_DEFLATE,
    PARAM_COMPRESSION_QAT,
};

enum param_bypass { PARAM_BYPASS_AUTO, PARAM_BYPASS_OFF };

#define PARAM_TEXT_SIZE 256

struct params {
    int64_t value[PARAM_COUNT]; /* of a text: 0 */
    char accel_devices[PARAM_TEXT_SIZE], cpu_affinity[PARAM_TEXT_SIZE];
    bool set[PARAM_COUNT]; /* by the user, on this side or, after the merge, on either */
};

void params_init(struct params *p);

/* Sets from "NAME=VALUE" on the command line. Refuses with the unit, the range and an example. */
int params_set(struct params *p, const char *assignment, struct error *err);

/* Sets from a JSON object {name: value} as migrate-set-parameters has it; a string may have a unit. All or nothing.
 * `live`: the migration runs, so only what may change then. */
int params_set_json(struct params *p, json_t *object, bool live, struct error *err);

/* What the other godwit says was set: `p` is made anew and holds that. What is wrong with it is an error of class
 * "peer"; `what` says whose parameters these are. */
int params_from_peer(struct params *p, json_t *object, const char *what, struct error *err);

/* What was set (`all`: every value), as a JSON object. A new reference. */
json_t *params_json(const struct params *p, bool all);

/* At the destination: agrees with what the source has set. Where both say something the stricter limit holds, and the
 * destination decides what happens at the destination. */
int params_merge(struct params *p, json_t *source, struct error *err);

/* At the source: takes over what the destination has agreed to. What is the source's own to say stays, and nothing
 * becomes laxer than the source has set it: the peer is not trusted. How long the guest may stand still and how far it
 * may be held back become no laxer than the source's own defaults either, and what is done when it does not end is not
 * the peer's to say at all. */
int params_adopt(struct params *p, json_t *agreed, struct error *err);

/* Tightens limits in `p` to those that are set in `ceiling`: a live change does not lift the other side's limit. */
void params_limit(struct params *p, const struct params *ceiling);

/* ns that the guest may stand still in all before it runs on at the source; INT64_MAX: any time. */
int64_t params_stop_limit(const struct params *p);

/* Prints {name: value} as people would type it, with units: those that are in `values`, or with `all` every one. */
int params_show(json_t *values, bool all, FILE *out, struct error *err);

/* How units are written, and one line a parameter: the end of --help. */
void params_help(FILE *out);

#endif
