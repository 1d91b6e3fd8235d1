/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include "base/cleanup.h"
#include "digest.h"
#include "number.h"
#include "saved.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define VERSION 1
#define SECTION_MAX (UINT64_C(1) << 36)

static const char magic[8] = { 'S', 'T', 'U', 'N', 'T', 'D', 'E', 'V' };

enum tag { TAG_HEADER = 1, TAG_FILLER, TAG_CPUS, TAG_DIGEST, TAG_END, TAG_LAST = TAG_END };

static int write_all(int fd, const void *bytes, size_t length, uint64_t *written, struct error *err) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, ERROR_LINK, "writing the device state");
        }
        at += n;
        length -= (size_t)n;
        *written += (uint64_t)n;
    }
    return 0;
}

static int write_section(int fd, enum tag tag, const struct blob *body, uint64_t *written, struct error *err) {
    CLEANUP_BLOB struct blob head = { 0 };
    blob_put(&head, tag);
    blob_put(&head, body->length);
    blob_put(&head, XXH3_64bits(body->data, body->length));
    if (write_all(fd, head.data, head.length, written, err) < 0) {
        return -1;
    }
    return write_all(fd, body->data, body->length, written, err);
}

/* Bytes that every stunt with the same seed makes alike. */
static int write_filler(struct machine *machine, uint64_t length, int fd, uint64_t *written, struct error *err) {
    CLEANUP_BLOB struct blob body = { 0 };
    uint64_t random = number_mix(machine->dirty.load.seed) | 1;
    for (uint64_t at = 0; at + 8 <= length; at += 8) {
        blob_put(&body, number_random(&random));
    }
    return write_section(fd, TAG_FILLER, &body, written, err);
}

static void put_text(struct blob *blob, const char *text) {
    blob_put(blob, strlen(text));
    blob_put_bytes(blob, text, strlen(text));
}

static int get_text(struct blob *blob, char *text, size_t size, struct error *err) {
    uint64_t length = 0;
    if (blob_get_range(blob, "length of a name", 0, size - 1, &length, err) < 0 ||
        blob_get_bytes(blob, text, length, err) < 0) {
        return -1;
    }
    text[length] = '\0';
    return 0;
}

int device_save_setup(struct machine *machine, int fd, uint64_t *written, struct error *err) {
    CLEANUP_BLOB struct blob body = { 0 };
    blob_put(&body, VERSION);
    blob_put(&body, parameters_capability(&machine->parameters, "x-ignore-shared"));
    blob_put(&body, machine->memory.count);
    for (size_t i = 0; i < machine->memory.count; i++) {
        put_text(&body, machine->memory.rams[i].id);
        blob_put(&body, machine->memory.rams[i].size);
    }
    if (write_all(fd, magic, sizeof(magic), written, err) < 0 ||
        write_section(fd, TAG_HEADER, &body, written, err) < 0) {
        return -1;
    }
    return write_filler(machine, machine->options.device_bytes / 2, fd, written, err);
}

static int write_digests(struct machine *machine, int fd, uint64_t *written, struct error *err) {
    for (size_t i = 0; i < machine->memory.count; i++) {
        CLEANUP_DIGEST struct digest digest = { 0 };
        CLEANUP_BLOB struct blob body = { 0 };
        if (digest_take(&machine->memory.rams[i], &digest, err) < 0) {
            return -1;
        }
        blob_put(&body, i);
        blob_put(&body, digest.value);
        blob_put(&body, digest.count);
        blob_put_bytes(&body, digest.pages, digest.count * sizeof(*digest.pages));
        if (write_section(fd, TAG_DIGEST, &body, written, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What no device may do: the guest stands still and its memory was read for the last time. */
static void write_late(struct machine *machine, uint64_t pages, uint8_t change) {
    for (uint64_t i = 0; i < pages && i < machine->memory.pages; i++) {
        volatile uint8_t *page = memory_page(&machine->memory, (machine->memory.pages / 2 + i) % machine->memory.pages);
        *page ^= change;
    }
}

int device_save_rest(struct machine *machine, enum runstate state, int fd, uint64_t *written, struct error *err) {
    CLEANUP_BLOB struct blob body = { 0 }, nothing = { 0 };
    write_late(machine, machine->options.write_late, 1);
    write_late(machine, machine->options.rewrite_late, 0);
    put_text(&body, machine_state_name(state));
    dirty_save(&machine->dirty, &body);
    if (write_filler(machine, machine->options.device_bytes - machine->options.device_bytes / 2, fd, written, err) <
            0 ||
        write_section(fd, TAG_CPUS, &body, written, err) < 0 ||
        (!machine->options.no_hash && write_digests(machine, fd, written, err) < 0)) {
        return -1;
    }
    return write_section(fd, TAG_END, &nothing, written, err);
}

static int read_all(int fd, void *bytes, size_t length, struct error *err) {
    char *at = bytes;
    while (length > 0) {
        ssize_t n = read(fd, at, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, ERROR_LINK, "reading the device state");
        }
        if (n == 0) {
            return error_set(err, ERROR_LINK, "the device state ended early");
        }
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

static int read_section(int fd, enum tag *tag, struct blob *body, struct error *err) {
    uint8_t bytes[24];
    if (read_all(fd, bytes, sizeof(bytes), err) < 0) {
        return -1;
    }
    struct blob head = { .data = bytes, .length = sizeof(bytes) };
    uint64_t number = 0, length = 0, hash = 0;
    if (blob_get_range(&head, "section tag", TAG_HEADER, TAG_LAST, &number, err) < 0 ||
        blob_get_range(&head, "section length", 0, SECTION_MAX, &length, err) < 0 || blob_get(&head, &hash, err) < 0) {
        return -1;
    }
    *tag = (enum tag)number;
    body->data = malloc(length + 1);
    body->length = body->space = length;
    if (body->data == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for a section of %llu bytes", (unsigned long long)length);
    }
    if (read_all(fd, body->data, length, err) < 0) {
        return -1;
    }
    return XXH3_64bits(body->data, length) == hash ? 0 : error_set(err, ERROR_CORRUPT, "section %d is damaged", *tag);
}

static int load_header(struct machine *machine, struct blob *body, struct error *err) {
    const struct memory *memory = &machine->memory;
    pthread_mutex_lock(&machine->lock);
    bool ignore = parameters_capability(&machine->parameters, "x-ignore-shared");
    pthread_mutex_unlock(&machine->lock);
    uint64_t number = 0;
    if (blob_get_range(body, "version", VERSION, VERSION, &number, err) < 0 || blob_get(body, &number, err) < 0) {
        return -1;
    }
    if ((number != 0) != ignore) {
        return error_set(err, ERROR_PEER, "Capability x-ignore-shared is %s, but received capability is %s",
                         ignore ? "on" : "off", ignore ? "off" : "on");
    }
    if (blob_get_range(body, "number of RAM blocks", memory->count, memory->count, &number, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < memory->count; i++) {
        const struct ram *ram = &memory->rams[i];
        char id[sizeof(ram->id)];
        if (get_text(body, id, sizeof(id), err) < 0) {
            return -1;
        }
        if (strcmp(id, ram->id) != 0) {
            return error_set(err, ERROR_PEER, "Unknown ramblock \"%s\", cannot accept migration", id);
        }
        if (blob_get_range(body, "size of RAM", ram->size, ram->size, &number, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int load_cpus(struct machine *machine, struct blob *body, enum runstate *state, struct error *err) {
    char name[32];
    if (get_text(body, name, sizeof(name), err) < 0 || machine_state_from_name(name, state, err) < 0) {
        return -1;
    }
    return dirty_restore(&machine->dirty, body, err);
}

static uint64_t first_difference(const struct digest *a, const uint16_t *b) {
    for (uint64_t page = 0; page < a->count; page++) {
        if (a->pages[page] != b[page]) {
            return page;
        }
    }
    return a->count;
}

/* The RAM must be the source's, to the byte. */
static int check_digest(struct machine *machine, struct blob *body, struct error *err) {
    uint64_t index = 0, value = 0, count = 0;
    if (blob_get_range(body, "RAM block", 0, machine->memory.count - 1, &index, err) < 0 ||
        blob_get(body, &value, err) < 0) {
        return -1;
    }
    const struct ram *ram = &machine->memory.rams[index];
    uint64_t pages = ram->size / STUNT_PAGE;
    CLEANUP_FREE uint16_t *theirs = calloc(pages, sizeof(*theirs));
    if (theirs == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to compare %s", ram->id);
    }
    CLEANUP_DIGEST struct digest ours = { 0 };
    if (blob_get_range(body, "pages", pages, pages, &count, err) < 0 ||
        blob_get_bytes(body, theirs, pages * sizeof(*theirs), err) < 0 || digest_take(ram, &ours, err) < 0) {
        return -1;
    }
    if (ours.value == value) {
        return 0;
    }
    uint64_t page = first_difference(&ours, theirs);
    if (page == pages) {
        return error_set(err, ERROR_CORRUPT, "%s differs from the source", ram->id);
    }
    return error_set(err, ERROR_CORRUPT, "%s differs from the source, first in page %llu", ram->id,
                     (unsigned long long)page);
}

static int load_section(struct machine *machine, enum tag tag, struct blob *body, enum runstate *state,
                        struct error *err) {
    switch (tag) {
    case TAG_HEADER:
        return load_header(machine, body, err);
    case TAG_CPUS:
        return load_cpus(machine, body, state, err);
    case TAG_DIGEST:
        return machine->options.no_check ? 0 : check_digest(machine, body, err);
    case TAG_FILLER:
    case TAG_END:
        break;
    }
    return 0;
}

int device_load(struct machine *machine, int fd, enum runstate *state, struct error *err) {
    char start[sizeof(magic)];
    _Static_assert(sizeof(start) == SAVED_MAGIC_SIZE, "either of the two may come");
    if (read_all(fd, start, sizeof(start), err) < 0) {
        return -1;
    }
    bool wrapped = memcmp(start, SAVED_MAGIC, sizeof(start)) == 0;
    if (wrapped && (saved_read_head(machine, fd, err) < 0 || read_all(fd, start, sizeof(start), err) < 0)) {
        return -1;
    }
    if (memcmp(start, magic, sizeof(magic)) != 0) {
        return error_set(err, ERROR_PEER, "Not a migration stream");
    }
    unsigned seen = 0;
    enum tag tag = TAG_HEADER;
    while (tag != TAG_END) {
        CLEANUP_BLOB struct blob body = { 0 };
        if (read_section(fd, &tag, &body, err) < 0) {
            return -1;
        }
        if (load_section(machine, tag, &body, state, err) < 0) {
            return -1;
        }
        seen |= 1u << tag;
    }
    if ((seen & 1u << TAG_HEADER) == 0 || (seen & 1u << TAG_CPUS) == 0) {
        return error_set(err, ERROR_PEER, "the device state lacks its header or its CPUs");
    }
    if (wrapped && saved_read_tail(fd, err) < 0) {
        return -1;
    }
    return machine->options.fail_load ? error_set(err, ERROR_PEER, "--fail-load was given") : 0;
}
