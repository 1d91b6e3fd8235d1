/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes a recorded stream of QEMU's apart into items, puts these together again, and says what was in it.
 *
 * usage: items PIECES FROM TO     PIECES: 0 for large ones, else a seed that cuts the stream at random
 */
#include "relay/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM ((size_t)1 << 20)

struct output {
    FILE *file;
    uint64_t marks[MARK_END + 1];
};

static int take(void *opaque, const struct item *i, struct error *err) {
    struct output *o = opaque;
    uint8_t head[ITEM_HEAD_MOST];
    size_t n = item_head(i, head);
    if (i->kind == ITEM_MARK) {
        o->marks[i->mark]++;
    }
    if (fwrite(head, 1, n, o->file) != n || (i->size > 0 && fwrite(i->data, 1, i->size, o->file) != i->size)) {
        return error_errno(err, ERROR_SYSTEM, "cannot write");
    }
    return 0;
}

static int copy(struct reader *r, FILE *in, uint32_t pieces, struct error *err) {
    static uint8_t data[ROOM];
    for (;;) {
        pieces = pieces == 0 ? 0 : pieces * 1664525u + 1013904223u;
        size_t n = pieces == 0 ? ROOM : 1 + (pieces >> 8) % (1u << (pieces >> 28) % 15);
        if ((n = fread(data, 1, n, in)) == 0) {
            return reader_finish(r, err);
        }
        if (reader_feed(r, data, n, err) < 0) {
            return -1;
        }
    }
}

static void tell(const struct reader *r, const struct output *o) {
    const struct reader_counts *n = reader_counts(r);
    printf("{\"kind\": \"%s\", \"bytes\": %" PRIu64 ", \"pages\": %" PRIu64 ", \"zero\": %" PRIu64
           ", \"sections\": %" PRIu64 ", \"opaque-since\": \"%s\", \"marks\": [",
           reader_kind_name(reader_kind(r)), n->bytes, n->pages, n->zeros, n->sections, n->why != NULL ? n->why : "");
    for (unsigned i = 0; i <= MARK_END; i++) {
        printf("%s%" PRIu64, i > 0 ? ", " : "", o->marks[i]);
    }
    puts("]}");
}

int main(int argc, char **argv) {
    struct error err = { 0 };
    if (argc != 4) {
        fprintf(stderr, "usage: %s PIECES FROM TO\n", argv[0]);
        return 2;
    }
    FILE *in = fopen(argv[2], "rbe");
    struct output o = { .file = fopen(argv[3], "wbe") };
    const struct item_sink sink = { .take = take, .opaque = &o };
    struct reader *r = reader_open(&sink, &err);
    if (in == NULL || o.file == NULL || r == NULL) {
        perror(argv[0]);
        return 1;
    }
    if (copy(r, in, (uint32_t)strtoul(argv[1], NULL, 10), &err) < 0 || fclose(o.file) != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], err.desc);
        return 1;
    }
    tell(r, &o);
    reader_close(r);
    fclose(in);
    return 0;
}
