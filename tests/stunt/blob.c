/* SPDX-License-Identifier: Apache-2.0 */
#include "blob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void blob_free(struct blob *blob) {
    free(blob->data);
    *blob = (struct blob){ 0 };
}

static void make_room(struct blob *blob, size_t more) {
    if (blob->space - blob->length >= more) {
        return;
    }
    size_t space = blob->space * 2 + more;
    blob->data = realloc(blob->data, space);
    if (blob->data == NULL) {
        fprintf(stderr, "stunt: out of memory\n");
        abort();
    }
    blob->space = space;
}

void blob_put(struct blob *blob, uint64_t value) {
    make_room(blob, 8);
    for (int i = 0; i < 8; i++) {
        blob->data[blob->length++] = (uint8_t)(value >> (8 * i));
    }
}

void blob_put_bytes(struct blob *blob, const void *bytes, size_t length) {
    if (length == 0) {
        return;
    }
    make_room(blob, length);
    memcpy(blob->data + blob->length, bytes, length);
    blob->length += length;
}

int blob_get(struct blob *blob, uint64_t *value, struct error *err) {
    uint8_t bytes[8];
    if (blob_get_bytes(blob, bytes, sizeof(bytes), err) < 0) {
        return -1;
    }
    *value = 0;
    for (int i = 7; i >= 0; i--) {
        *value = *value << 8 | bytes[i];
    }
    return 0;
}

int blob_get_range(struct blob *blob, const char *what, uint64_t low, uint64_t high, uint64_t *value,
                   struct error *err) {
    if (blob_get(blob, value, err) < 0) {
        return -1;
    }
    if (*value < low || *value > high) {
        return error_set(err, ERROR_PEER, "%s is %llu, not in %llu..%llu", what, (unsigned long long)*value,
                         (unsigned long long)low, (unsigned long long)high);
    }
    return 0;
}

int blob_get_bytes(struct blob *blob, void *bytes, size_t length, struct error *err) {
    if (blob->length - blob->at < length) {
        return error_set(err, ERROR_PEER, "the device state is too short");
    }
    if (length > 0) {
        memcpy(bytes, blob->data + blob->at, length);
    }
    blob->at += length;
    return 0;
}
