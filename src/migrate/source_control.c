/* SPDX-License-Identifier: Apache-2.0 */
/* What the control socket may ask of the source. The functions behind source_control_ops run on its thread. */
#include "migrate/source.h"

#include <sys/eventfd.h>

int64_t source_param(struct source *s, enum param param) {
    pthread_mutex_lock(&s->settings.lock);
    int64_t value = s->settings.params.value[param];
    pthread_mutex_unlock(&s->settings.lock);
    return value;
}

void source_apply_params(struct source *s) {
    static const int codec_of[] = {
        [PARAM_COMPRESSION_AUTO] = COMPRESSION_AUTO, [PARAM_COMPRESSION_NONE] = CODEC_NONE,
        [PARAM_COMPRESSION_LZ4] = CODEC_LZ4,         [PARAM_COMPRESSION_ZSTD] = CODEC_ZSTD,
        [PARAM_COMPRESSION_DEFLATE] = CODEC_DEFLATE, [PARAM_COMPRESSION_QAT] = COMPRESSION_ACCEL,
    };
    const int64_t *value = s->settings.params.value;
    limit_set(&s->settings.limit, (uint64_t)value[PARAM_MAX_BANDWIDTH]);
    atomic_store(&s->settings.compression.codec, codec_of[value[PARAM_COMPRESSION]]);
    atomic_store(&s->settings.compression.level[CODEC_LZ4], (int)value[PARAM_LZ4_ACCELERATION]);
    atomic_store(&s->settings.compression.level[CODEC_ZSTD], (int)value[PARAM_ZSTD_LEVEL]);
    atomic_store(&s->settings.compression.level[CODEC_DEFLATE], (int)value[PARAM_DEFLATE_LEVEL]);
    atomic_store(&s->settings.compression.bypass, value[PARAM_BYPASS_COMPRESSION] == PARAM_BYPASS_AUTO);
    atomic_store(&s->settings.compression.zero_detection, value[PARAM_ZERO_PAGE_DETECTION] != 0);
}

static json_t *control_query(void *opaque) {
    struct source *s = opaque;
    return status_query(&s->status);
}

static json_t *control_parameters(void *opaque) {
    struct source *s = opaque;
    pthread_mutex_lock(&s->settings.lock);
    json_t *json = params_json(&s->settings.params, true);
    pthread_mutex_unlock(&s->settings.lock);
    return json;
}

static int control_set_parameters(void *opaque, json_t *object, struct error *err) {
    struct source *s = opaque;
    pthread_mutex_lock(&s->settings.lock);
    int rc = params_set_json(&s->settings.params, object, true, err);
    params_limit(&s->settings.params, &s->settings.ceiling);
    source_apply_params(s);
    pthread_mutex_unlock(&s->settings.lock);
    return rc;
}

static int control_cancel(void *opaque, struct error *err) {
    struct source *s = opaque;
    (void)err;
    eventfd_write(s->cancel_fd, 1);
    return 0;
}

static int control_force(void *opaque, struct error *err) {
    struct source *s = opaque;
    (void)err;
    atomic_store(&s->holder.force, true);
    return 0;
}

const struct control_ops source_control_ops = {
    .query = control_query,
    .parameters = control_parameters,
    .set_parameters = control_set_parameters,
    .cancel = control_cancel,
    .force = control_force,
};
