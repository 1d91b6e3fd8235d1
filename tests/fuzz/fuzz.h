/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz targets: each file fuzz_NAME.c has one LLVMFuzzerTestOneInput() for one parser of what others say to us.
 *
 * The same file is linked twice: with clang's libFuzzer (tests/fuzz/run), and with driver.c, which runs the seeds in
 * corpus/NAME and a few thousand changes of them, the same ones every time, as an ordinary test.
 */
#ifndef GODWIT_TESTS_FUZZ_FUZZ_H
#define GODWIT_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Must not keep anything from one call to the next. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input is. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition);                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Takes numbers off the front of an input, little-endian; zeros when it has ended. */
struct input {
    const uint8_t *data;
    size_t size;
};

static inline uint32_t take(struct input *in, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes && in->size > 0; i++) {
        value |= (uint32_t)*in->data << 8 * i;
        in->data++;
        in->size--;
    }
    return value;
}

/* A copy of exactly that size, so that a read behind its end is seen. Never NULL; the caller frees it. */
static inline uint8_t *copy_of(const uint8_t *data, size_t size) {
    uint8_t *copy = calloc(1, size > 0 ? size : 1);
    MUST(copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

/* The same with a NUL behind it. */
static inline char *text_of(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    MUST(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    return text;
}

#endif
