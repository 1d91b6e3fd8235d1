/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/codec.h"

#include <string.h>

static const struct codec_ops *const codecs[CODEC_COUNT] = {
    [CODEC_LZ4] = &codec_lz4,
    [CODEC_ZSTD] = &codec_zstd,
    [CODEC_DEFLATE] = &codec_deflate,
};

const struct codec_ops *codec_by_id(unsigned id) {
    return id < CODEC_COUNT ? codecs[id] : NULL;
}

const struct codec_ops *codec_by_name(const char *name) {
    for (size_t i = 0; i < CODEC_COUNT; i++) {
        if (codecs[i] != NULL && strcmp(codecs[i]->name, name) == 0) {
            return codecs[i];
        }
    }
    return NULL;
}

const char *codec_name(unsigned id) {
    const struct codec_ops *c = codec_by_id(id);
    return c != NULL ? c->name : "none";
}
