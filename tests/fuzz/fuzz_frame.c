/* SPDX-License-Identifier: Apache-2.0 */
/* Header and runs of a frame (wire/frame.h). The input is the frame. */
#include "fuzz.h"
#include "wire/bytes.h"
#include "wire/frame.h"

static const uint64_t block_pages[] = { 1000, UINT64_C(1) << 24, UINT64_C(1) << 40 };
static const struct frame_bounds bounds = { .space[FRAME_RAM] = { 3, block_pages },
                                            .max_pages = 128,
                                            .max_payload = 128 * FRAME_PAGE_SIZE };

static void check_accepted(const struct frame *f, const struct frame_run *runs) {
    uint64_t next = 0, total = 0;
    for (uint32_t i = 0; i < f->runs; i++) {
        MUST(runs[i].count > 0 && runs[i].first >= next);
        next = runs[i].first + runs[i].count;
        MUST(next <= block_pages[f->index]);
        total += runs[i].count;
    }
    if (f->kind == FRAME_PASS_END) {
        MUST(f->runs == 0 && f->payload == 0 && f->thing == FRAME_OF_ALL && f->index == 0);
        return;
    }
    MUST(total == f->pages && f->runs > 0 && f->thing == FRAME_RAM && f->index < 3);
    if (f->kind == FRAME_PAGES || f->kind == FRAME_DELTA) {
        MUST(f->pages <= bounds.max_pages && f->payload > 0 && f->payload <= bounds.max_payload);
    } else {
        MUST(f->kind == FRAME_ZERO && f->payload == 0);
    }
}

static int decode_runs(const uint8_t *in, size_t size, const struct frame *f, struct frame_run *runs) {
    struct error err = { 0 };
    uint8_t *exact = copy_of(in, size);
    int rc = frame_decode_runs(exact, &bounds, f, runs, &err);
    MUST((rc == 0) == !error_is_set(&err));
    if (rc == 0) {
        check_accepted(f, runs);
    }
    free(exact);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct frame_run runs[FRAME_MAX_PAGES], packed[FRAME_MAX_PAGES];
    static uint8_t again[FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE];
    struct error err = { 0 };
    struct frame f, g;
    if (size < FRAME_HEADER_SIZE || frame_decode_header(data, &bounds, &f, &err) < 0) {
        return 0;
    }
    MUST(!error_is_set(&err) && f.runs <= FRAME_MAX_PAGES);
    size_t need = FRAME_HEADER_SIZE + (size_t)f.runs * FRAME_RUN_SIZE;
    if (size < need) {
        return 0;
    }
    decode_runs(data, need, &f, runs);
    /* the same with a check that is right: else hardly any input comes to the runs */
    for (uint32_t i = 0; i < f.runs; i++) {
        uint64_t word = get_u64(data + FRAME_HEADER_SIZE + i * FRAME_RUN_SIZE);
        packed[i] = (struct frame_run){ word >> 24, (uint32_t)word & FRAME_MAX_RUN_PAGES };
    }
    MUST(frame_encode(&f, packed, again) == need);
    MUST(frame_decode_header(again, &bounds, &g, &err) == 0);
    MUST(g.kind == f.kind && g.thing == f.thing && g.index == f.index && g.runs == f.runs && g.pages == f.pages &&
         g.payload == f.payload && g.pass == f.pass);
    if (decode_runs(again, need, &g, runs) == 0) {
        for (uint32_t i = 0; i < f.runs; i++) {
            MUST(runs[i].first == packed[i].first && runs[i].count == packed[i].count);
        }
    }
    return 0;
}
