/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to QEMU whose answers need checking: each integer and string of an answer passes through here. */
#ifndef GODWIT_VMM_QEMU_QUERY_H
#define GODWIT_VMM_QEMU_QUERY_H

#include "vmm/qemu/qmp.h"
#include "vmm/vmm.h"

static inline void cleanup_json(json_t **value) {
    json_decref(*value);
}

#define CLEANUP_JSON __attribute__((cleanup(cleanup_json)))

/* A number of QMP: unsigned 64-bit values that JSON libraries turn into reals are cut to INT64_MAX. False: no number.
 */
bool query_int(const json_t *value, int64_t *n);
/* Copies a string, cut to fit, control characters replaced. False: no string. */
bool query_string(const json_t *value, char *text, size_t size);

/* Whether an answer to query-target (NULL: none) names a PC; what it names is in `arch`, "" for nothing. */
bool query_is_x86(const json_t *target, char *arch, size_t size);

/* Whether the guest runs, and QEMU's name of its state ("paused", "inmigrate", …). */
struct query_state {
    bool running;
    char name[32];
};
int query_state(struct qmp *q, struct query_state *state, struct error *err);

/* QEMU's own migration. */
struct query_migration {
    enum vmm_status status;
    char name[32];     /* QEMU's word for it; "none" */
    char error[512];   /* error-desc; "" */
    char blocked[512]; /* blocked-reasons, joined; "" */
    bool has_ram;
    int64_t ram_total; /* bytes of RAM that QEMU itself transfers */
};
int query_migration(struct qmp *q, struct query_migration *m, struct error *err);
/* Whether it has begun and not ended. */
bool query_migration_live(const struct query_migration *m);

/* The children of a QOM object: calls `each` with name and type until it returns non-zero, and returns that. An object
 * that does not exist has no children. */
typedef int query_child_fn(void *opaque, const char *name, const char *type, struct error *err);
int query_children(struct qmp *q, const char *path, query_child_fn *each, void *opaque, struct error *err);

/* Properties of a QOM object. 0, or -1 also for a value of another type. */
int query_property_int(struct qmp *q, const char *path, const char *property, int64_t *n, struct error *err);
int query_property_bool(struct qmp *q, const char *path, const char *property, bool *b, struct error *err);
int query_property_string(struct qmp *q, const char *path, const char *property, char *text, size_t size,
                          struct error *err);
/* The same for a property that only newer versions have: 0 with *n = otherwise when it is not there. */
int query_optional_int(struct qmp *q, const char *path, const char *property, int64_t otherwise, int64_t *n,
                       struct error *err);

/* Questions that a QEMU may not know: 0 with *value = NULL then. Else *value is a new reference. */
int query_if_known(struct qmp *q, const char *command, json_t *args, json_t **value, struct error *err);
int query_property(struct qmp *q, const char *path, const char *property, json_t **value, struct error *err);

#endif
