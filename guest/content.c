/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <stdlib.h>
#include <string.h>

#define POOL_SIZE ((size_t)4 << 20)
#define PIECE 512
#define LINE 64
#define WORDS 4096
#define STAMP_MAGIC UINT64_C(0x5450574454494d47)

static char *pool;

struct stamp {
    uint64_t magic;
    uint64_t place;
    uint32_t body, version;
};

uint64_t content_hash(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Letters as often as English has them, so that an entropy coder finds what it would find in real text. */
static size_t make_word(char word[16], uint64_t h) {
    static const char vowels[] = "eeeeeaaaaoooiiiu", consonants[] = "ttttnnnsssrrhhdlllcmfpgwybvk";
    size_t length = 2 + (h & 3) + ((h >> 2) & 3) + ((h >> 4) & 1);
    for (size_t i = 0; i < length; i++) {
        h = content_hash(h);
        word[i] = (i + (h & 7) / 6) % 2 == 0 ? consonants[(h >> 8) % (sizeof(consonants) - 1)]
                                             : vowels[(h >> 8) % (sizeof(vowels) - 1)];
    }
    return length;
}

int content_setup(uint64_t seed) {
    static char words[WORDS][16];
    static size_t lengths[WORDS];
    pool = malloc(POOL_SIZE + 32);
    if (pool == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < WORDS; i++) {
        lengths[i] = make_word(words[i], content_hash(seed ^ (i << 20)));
    }
    uint64_t h = seed;
    for (size_t at = 0; at < POOL_SIZE;) {
        h = content_hash(h);
        /* The product of three gives few words that are frequent and many that are rare. */
        uint64_t pick = ((h & 0xffff) * ((h >> 16) & 0xffff) >> 16) * ((h >> 32) & 0xffff) >> 20;
        memcpy(pool + at, words[pick % WORDS], 16);
        at += lengths[pick % WORDS];
        if ((h >> 48) % 9 == 0) {
            pool[at++] = (h >> 52) % 3 == 0 ? '\n' : ',';
        }
        pool[at++] = ' ';
    }
    return 0;
}

enum content_kind content_kind_at(uint64_t seed, uint64_t place, const uint64_t mix[4]) {
    uint64_t percent = content_hash(seed ^ content_hash(place)) % 100;
    for (int kind = 0; kind < 3; kind++) {
        if (percent < mix[kind]) {
            return (enum content_kind)kind;
        }
        percent -= mix[kind];
    }
    return CONTENT_ZERO;
}

static void fill_text(char *out, uint64_t h) {
    for (size_t at = 0; at < CONTENT_SIZE; at += PIECE) {
        h = content_hash(h);
        memcpy(out + at, pool + h % (POOL_SIZE - PIECE), PIECE);
    }
}

/* Objects of 64 bytes as an allocator lays them out: a type, two neighbours, small numbers, a hash, unused space. */
static void fill_pointer(uint64_t *out, uint64_t h) {
    uint64_t heap = UINT64_C(0x00007f0000000000) | (h & UINT64_C(0x3ffff00000));
    for (size_t at = 0; at < CONTENT_SIZE / 8; at += 8) {
        h = content_hash(h);
        out[at] = UINT64_C(0x0000555555554000) + (h & 7) * 0x128;
        out[at + 1] = heap + ((h >> 3) & 0x3ffff) * 16;
        out[at + 2] = heap + ((h >> 21) & 0xff) * 64;
        out[at + 3] = (h >> 39) & 0xff;
        out[at + 4] = (h >> 47) & 3;
        out[at + 5] = (h >> 49 & 3) == 0 ? h >> 32 : 0;
        out[at + 6] = 0;
        out[at + 7] = (h >> 51 & 3) == 0 ? heap + ((h >> 52) & 0xfff) * 16 : 0;
    }
}

static void fill_random(uint64_t *out, uint64_t h) {
    for (size_t i = 0; i < CONTENT_SIZE / 8; i++) {
        h ^= h << 13;
        h ^= h >> 7;
        h ^= h << 17;
        out[i] = h;
    }
}

static void put_line(uint64_t *out, uint64_t h) {
    size_t at = LINE / 8 * (1 + h % (CONTENT_SIZE / LINE - 1));
    for (size_t i = 0; i < LINE / 8; i += 2) {
        h = content_hash(h);
        out[at + i] = h;
        out[at + i + 1] = h & 0xffff;
    }
}

void content_fill(void *out, const struct content *content) {
    struct stamp stamp = { STAMP_MAGIC ^ content->seed, content->place, content->body, content->version };
    uint64_t h = content_hash(content->seed ^ content_hash(content->place ^ ((uint64_t)content->body << 40))) | 1;
    switch (content->kind) {
    case CONTENT_TEXT:
        fill_text(out, h);
        break;
    case CONTENT_POINTER:
        fill_pointer(out, h);
        break;
    case CONTENT_RANDOM:
        fill_random(out, h);
        break;
    case CONTENT_ZERO:
        memset(out, 0, CONTENT_SIZE);
        if (content->body % 2 != 0) {
            memcpy(out, &stamp, sizeof(stamp));
        }
        return;
    }
    put_line(out, content_hash(h ^ content->version));
    memcpy(out, &stamp, sizeof(stamp));
}

size_t content_check(const void *page, const struct content *content) {
    _Alignas(64) unsigned char want[CONTENT_SIZE];
    content_fill(want, content);
    if (memcmp(page, want, CONTENT_SIZE) == 0) {
        return CONTENT_SIZE;
    }
    size_t at = 0;
    /* Byte by byte from here on: the page may change under us when its writer is not us, and then this must end too. */
    while (at < CONTENT_SIZE - 1 && ((const unsigned char *)page)[at] == want[at]) {
        at++;
    }
    return at;
}
