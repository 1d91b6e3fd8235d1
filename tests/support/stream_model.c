/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_model.h"

#include <string.h>

struct reader {
    struct model *m;
    const uint8_t *at;
    size_t left;
    bool addresses, has_ram, named;
    uint32_t ram_id, odd_id;
    char block[256]; /* RAMBlock that CONTINUE means */
};

/* 0 when it is not there: then the stream has been cut, and `left` is made to say so. */
static uint64_t number(struct reader *r, size_t bytes, bool *cut) {
    uint64_t v = 0;
    if (r->left < bytes) {
        *cut = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        v = v << 8 | r->at[i];
    }
    r->at += bytes;
    r->left -= bytes;
    return v;
}

static uint64_t sum(uint64_t before, const uint8_t *data, size_t size) {
    uint64_t v = before ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++) {
        v = (v ^ data[i]) * UINT64_C(0x100000001b3);
    }
    return v;
}

static const uint8_t *bytes(struct reader *r, size_t size, bool *cut) {
    const uint8_t *p = r->at;
    if (*cut || r->left < size) {
        *cut = true;
        return NULL;
    }
    r->at += size;
    r->left -= size;
    return p;
}

static void text(struct reader *r, char to[256], bool *cut) {
    size_t n = (size_t)number(r, 1, cut);
    const uint8_t *p = bytes(r, n, cut);
    memset(to, 0, 256);
    if (p != NULL) {
        memcpy(to, p, n);
    }
}

enum { GOOD, END_OF_RAM, BAD };

static int configuration(struct reader *r, bool *cut) {
    char name[256];
    if (number(r, 1, cut) != 7) {
        return *cut ? GOOD : BAD;
    }
    bytes(r, (size_t)number(r, 4, cut), cut);
    while (!*cut && r->left > 0 && *r->at == 5) {
        number(r, 1, cut);
        text(r, name, cut);
        number(r, 4, cut);
        if (strcmp(name, "configuration/capabilities") == 0) {
            for (uint64_t n = number(r, 4, cut); n > 0 && !*cut; n--) {
                text(r, name, cut);
                r->addresses |= strcmp(name, "x-ignore-shared") == 0;
            }
        } else if (strcmp(name, "configuration/uuid") == 0) {
            bytes(r, 16, cut);
        } else if (strcmp(name, "configuration/target-page-bits") == 0) {
            number(r, 4, cut);
        } else if (!*cut) {
            return BAD;
        }
    }
    return GOOD;
}

static int list_of_blocks(struct reader *r, uint64_t total, bool *cut) {
    const uint8_t *begin = r->at;
    while (total > 0 && !*cut) {
        char name[256];
        text(r, name, cut);
        uint64_t size = number(r, 8, cut);
        if (r->addresses) {
            number(r, 8, cut);
        }
        total -= size;
    }
    if (!*cut) {
        r->m->listed = sum(r->m->listed, begin, (size_t)(r->at - begin));
    }
    return GOOD;
}

static int page(struct reader *r, uint64_t value, bool *cut) {
    uint64_t kind = value & 0xfdf, more = 0;
    size_t body = 0;
    if ((value & 0x20) == 0) {
        text(r, r->block, cut);
        r->named = true;
    } else if (!r->named) {
        return BAD;
    }
    const uint8_t *begin = r->at;
    switch (kind) {
    case 0x02:
        body = 1;
        break;
    case 0x08:
        body = 4096;
        break;
    case 0x40:
        more = number(r, 1, cut);
        body = (size_t)number(r, 2, cut);
        break;
    default:
        body = (size_t)number(r, 4, cut);
        break;
    }
    bytes(r, body, cut);
    if (*cut) {
        return GOOD;
    }
    if ((kind == 0x40 && (more != 1 || body > 4096)) || (kind == 0x100 && body > 5000) ||
        r->m->count == MODEL_PAGES_MOST) {
        return BAD;
    }
    struct model_page *p = &r->m->pages[r->m->count++];
    memcpy(p->block, r->block, sizeof(p->block));
    p->where = value & ~UINT64_C(0x20);
    p->body = sum(0, begin, (size_t)(r->at - begin));
    return GOOD;
}

static int records(struct reader *r, bool *cut) {
    while (!*cut) {
        uint64_t value = number(r, 8, cut), flags = value & 0xfdf;
        int rc = GOOD;
        if (*cut) {
            break;
        }
        if (flags == 0x10) {
            return GOOD;
        }
        if (flags == 0x04) {
            rc = list_of_blocks(r, value & ~UINT64_C(0xfff), cut);
        } else if (flags == 0x02 || flags == 0x08 || flags == 0x40 || flags == 0x100) {
            rc = page(r, value, cut);
        } else if (flags != 0x200 && flags != 0x80) {
            rc = BAD;
        }
        if (rc != GOOD) {
            return rc;
        }
    }
    return GOOD;
}

static int data_and_footer(struct reader *r, uint32_t id, bool *cut) {
    int rc = GOOD;
    if (r->has_ram && id == r->ram_id) {
        rc = records(r, cut);
    } else if (id == r->odd_id) {
        bytes(r, (size_t)number(r, 4, cut), cut);
    } else {
        return BAD;
    }
    if (rc == GOOD && !*cut && (number(r, 1, cut) != 0x7e || number(r, 4, cut) != id) && !*cut) {
        return BAD;
    }
    return rc;
}

static int section(struct reader *r, bool *cut) {
    char name[256] = "";
    uint64_t type = number(r, 1, cut);
    if (*cut) {
        return GOOD;
    }
    if (type == 8) {
        number(r, 2, cut);
        bytes(r, (size_t)number(r, 2, cut), cut);
        return GOOD;
    }
    if (type < 1 || type > 4) {
        return BAD;
    }
    uint32_t id = (uint32_t)number(r, 4, cut);
    if (type == 1 || type == 4) {
        text(r, name, cut);
        number(r, 4, cut);
        number(r, 4, cut);
        if (*cut) {
            return GOOD;
        }
        if (strcmp(name, "ram") == 0) {
            r->ram_id = id;
            r->has_ram = true;
        } else if (strcmp(name, "odd") == 0) {
            r->odd_id = id;
        } else {
            return BAD;
        }
    }
    int rc = data_and_footer(r, id, cut);
    return rc == GOOD && type == 3 && id == r->ram_id && !*cut ? END_OF_RAM : rc;
}

void model_load(struct model *m, const uint8_t *data, size_t size) {
    struct reader r = { .m = m, .at = data, .left = size, .odd_id = UINT32_MAX };
    bool cut = false;
    int rc = GOOD;
    m->count = 0;
    m->listed = 0;
    if (number(&r, 8, &cut) != UINT64_C(0x5145564d00000003) && !cut) {
        rc = BAD;
    }
    if (rc == GOOD && !cut) {
        rc = configuration(&r, &cut);
    }
    while (rc == GOOD && !cut) {
        rc = section(&r, &cut);
    }
    m->end = cut ? MODEL_CUT : rc == END_OF_RAM ? MODEL_DEVICES : MODEL_BAD;
}

static bool same(const struct model_page *a, const struct model_page *b) {
    return strcmp(a->block, b->block) == 0 && a->where == b->where && a->body == b->body;
}

/* Whether `out` is `in` without carried pages before `from`. */
static bool agrees_from(const struct model *in, const struct model *out, bool (*carried)(void *, const char *),
                        size_t from) {
    size_t n = 0;
    for (size_t i = 0; i < in->count; i++) {
        if (i < from && carried(NULL, in->pages[i].block)) {
            continue;
        }
        if (n == out->count || !same(&in->pages[i], &out->pages[n])) {
            return false;
        }
        n++;
    }
    return n == out->count;
}

bool model_agrees(const struct model *in, const struct model *out, bool (*carried)(void *, const char *),
                  bool gave_up) {
    if ((in->end == MODEL_DEVICES) != (out->end == MODEL_DEVICES) || in->listed != out->listed) {
        return false;
    }
    for (size_t from = gave_up ? 0 : in->count; from <= in->count; from++) {
        if (agrees_from(in, out, carried, from)) {
            return true;
        }
    }
    return false;
}
