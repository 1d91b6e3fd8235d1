/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deltas of pages. One byte says how large a page is, and whether the rest is a sequence of deltas to apply, or an old
 * and a new version (one half each, the longer as it stands) whose delta must lead from one to the other.
 */
#include "codec/delta.h"
#include "fuzz_codec.h"

enum { DELTAS, PAGE, NOW, BACK };

/* Whatever the deltas are, each takes something of the input, none touches what is not its own, and what one leaves
 * the next can use. */
static void apply(struct input *in, size_t page_size) {
    const uint8_t *at = fenced_copy(DELTAS, in->data, in->size), *end = at + in->size;
    uint8_t *page = fenced(PAGE, page_size);
    memset(page, 0x5a, page_size);
    for (;;) {
        const uint8_t *before = at;
        int rc = delta_decode(&at, end, page, page_size);
        check_fence(page);
        if (rc != 0) {
            MUST(rc == -1 && at == before);
            return;
        }
        MUST(at > before && at <= end);
    }
}

static void fill(uint8_t *page, size_t page_size, const uint8_t *from, size_t size) {
    memset(page, 0, page_size);
    if (size > 0) {
        memcpy(page, from, size < page_size ? size : page_size);
    }
}

static void there_and_back(struct input *in, size_t page_size) {
    size_t capacity = take(in, 2), half = in->size / 2;
    uint8_t *old = fenced(PAGE, page_size), *now = fenced(NOW, page_size);
    fill(old, page_size, in->data, half);
    fill(now, page_size, in->data + half, in->size - half);
    uint8_t *out = fenced(DELTAS, capacity);
    size_t n = delta_encode(old, now, page_size, out, capacity);
    check_fence(out);
    if (n == 0) {
        MUST(capacity < page_size + 4); /* three bytes of length and one of skip are all that a delta can add */
        return;
    }
    MUST(n <= capacity);
    uint8_t *back = fenced_copy(BACK, old, page_size);
    const uint8_t *at = out;
    MUST(delta_decode(&at, out + n, back, page_size) == 0);
    MUST(at == out + n && memcmp(back, now, page_size) == 0);
    at = out;
    MUST(delta_decode(&at, out + n - 1, back, page_size) == -1 && at == out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = { data, size };
    uint32_t head = take(&in, 1);
    size_t page_size = 64 * (size_t)((head & 0x7f) + 1);
    if (size > FENCED_MAX) {
        return 0;
    }
    if ((head & 0x80) != 0) {
        there_and_back(&in, page_size);
    } else {
        apply(&in, page_size);
    }
    return 0;
}
