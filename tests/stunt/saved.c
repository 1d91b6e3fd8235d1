/* SPDX-License-Identifier: Apache-2.0 */
#include "saved.h"

#include "blob.h"
#include "device.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SECTION_ID 7u
#define VERSION 1u

enum { END = 0x00, FULL = 0x04, DESCRIPTION = 0x06, CONFIGURATION = 0x07, FOOTER = 0x7e };

static void put(struct blob *blob, uint64_t n, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        uint8_t byte = (uint8_t)(n >> (8 * i));
        blob_put_bytes(blob, &byte, 1);
    }
}

static void put_section(struct blob *blob) {
    put(blob, FULL, 1);
    put(blob, SECTION_ID, 4);
    put(blob, 5, 1);
    blob_put_bytes(blob, "stunt", 5);
    put(blob, 0, 4); /* the instance */
    put(blob, VERSION, 4);
}

static void put_footer(struct blob *blob) {
    put(blob, FOOTER, 1);
    put(blob, SECTION_ID, 4);
    put(blob, END, 1);
}

static int write_all(int fd, const struct blob *blob, struct error *err) {
    return write(fd, blob->data, blob->length) == (ssize_t)blob->length
               ? 0
               : error_errno(err, ERROR_VMM, "saving the device state");
}

int saved_write(struct machine *machine, int fd, struct error *err) {
    CLEANUP_BLOB struct blob head = { 0 }, foot = { 0 };
    uint64_t written = 0;
    blob_put_bytes(&head, SAVED_MAGIC, SAVED_MAGIC_SIZE);
    put_section(&head);
    put_footer(&foot);
    /* whatever the guest was: QEMU says that it ran */
    if (write_all(fd, &head, err) < 0 || device_save_setup(machine, fd, &written, err) < 0 ||
        device_save_rest(machine, RUN_RUNNING, fd, &written, err) < 0) {
        return -1;
    }
    return write_all(fd, &foot, err);
}

/* Reads as many bytes as `wanted` has, and they must be those. */
static int expect(int fd, const struct blob *wanted, const char *what, struct error *err) {
    uint8_t got[256];
    for (size_t at = 0; at < wanted->length;) {
        size_t room = wanted->length - at < sizeof(got) ? wanted->length - at : sizeof(got);
        ssize_t n = read(fd, got, room);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return error_set(err, ERROR_LINK, "the device state ended early, before its %s", what);
        }
        if (memcmp(got, wanted->data + at, (size_t)n) != 0) {
            return error_set(err, ERROR_PEER, "the %s of the device state is not what it should be", what);
        }
        at += (size_t)n;
    }
    return 0;
}

int saved_read_head(const struct machine *machine, int fd, struct error *err) {
    CLEANUP_BLOB struct blob configuration = { 0 }, section = { 0 };
    size_t length = strlen(machine->options.machine) - strlen("-machine");
    put(&configuration, CONFIGURATION, 1);
    put(&configuration, length, 4);
    blob_put_bytes(&configuration, machine->options.machine, length);
    put_section(&section);
    return expect(fd, &configuration, "configuration", err) < 0 || expect(fd, &section, "section", err) < 0 ? -1 : 0;
}

int saved_read_tail(int fd, struct error *err) {
    CLEANUP_BLOB struct blob foot = { 0 }, description = { 0 };
    put_footer(&foot);
    put(&description, DESCRIPTION, 1);
    put(&description, 0, 4);
    return expect(fd, &foot, "end", err) < 0 || expect(fd, &description, "description", err) < 0 ? -1 : 0;
}
