/* SPDX-License-Identifier: Apache-2.0 */
/* What the control socket may ask of the destination; runs on its thread. Parameters are the source's to change. */
#include "migrate/destination_parts.h"

#include <sys/eventfd.h>

static json_t *control_query(void *opaque) {
    struct destination *d = opaque;
    return status_query(&d->status);
}

static json_t *control_parameters(void *opaque) {
    struct destination *d = opaque;
    return params_json(&d->config->params, true);
}

static int control_set_parameters(void *opaque, json_t *object, struct error *err) {
    (void)opaque;
    (void)object;
    return error_set(err, ERROR_USAGE, "parameters of a running migration are changed at the source");
}

static int control_cancel(void *opaque, struct error *err) {
    struct destination *d = opaque;
    (void)err;
    eventfd_write(d->ends.cancel_fd, 1);
    return 0;
}

static int control_force(void *opaque, struct error *err) {
    (void)opaque;
    return error_set(err, ERROR_USAGE, "the switchover is forced at the source");
}

const struct control_ops destination_control_ops = {
    .query = control_query,
    .parameters = control_parameters,
    .set_parameters = control_set_parameters,
    .cancel = control_cancel,
    .force = control_force,
};
