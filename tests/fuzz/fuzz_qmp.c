/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a monitor says (vmm/qemu/qmp.h): the input is all that comes from it, greeting first. "%N" stands for the id of
 * our Nth command, which has our pid in it.
 */
#include "fuzz.h"
#include "vmm/qemu/qmp.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SAID_MAX ((size_t)64 << 10)

static size_t write_out(const uint8_t *data, size_t size, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < size && n < SAID_MAX - 64; i++) {
        if (data[i] == '%' && i + 1 < size && data[i + 1] >= '1' && data[i + 1] <= '9') {
            n += (size_t)snprintf(out + n, 64, "godwit-%ld-%c", (long)getpid(), data[++i]);
        } else {
            out[n++] = (char)data[i];
        }
    }
    return n;
}

static const char *const names[] = { "STOP", "RESUME", "MIGRATION", NULL };

static void on_event(void *opaque, const struct qmp_event *e) {
    unsigned *events = opaque;
    MUST(e->name[0] != '\0' && strlen(e->word) < sizeof(e->word) && e->when > 0);
    ++*events;
}

static void execute(struct qmp *q, const char *command) {
    struct error err = { 0 };
    json_t *ret = NULL;
    int rc = qmp_execute(q, command, NULL, &ret, QMP_TIMEOUT, &err);
    MUST((rc == 0) == (ret != NULL) && (rc == 0) == !error_is_set(&err));
    MUST(rc < 0 || qmp_refusal(q)[0] == '\0');
    json_decref(ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char said[SAID_MAX];
    size_t n = write_out(data, size, said);
    int ends[2];
    unsigned events = 0;
    struct error err = { 0 };
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    MUST(send(ends[0], said, n, MSG_DONTWAIT) == (ssize_t)n);
    shutdown(ends[0], SHUT_WR);
    struct qmp *q = qmp_from_fd(ends[1], &err);
    MUST(q != NULL);
    qmp_on_event(q, names, on_event, &events);
    if (qmp_negotiate(q, QMP_TIMEOUT, &err) == 0) {
        struct qmp_version v = qmp_version(q);
        MUST(v.major >= 0 && v.major <= 9999);
        execute(q, "query-status"); /* %2 */
        execute(q, "query-migrate");
    }
    error_clear(&err);
    qmp_drive(q, &err);
    error_clear(&err);
    qmp_wait_event(q, 0, &err);
    error_clear(&err);
    qmp_resync(q, QMP_TIMEOUT, &err);
    error_clear(&err);
    MUST(qmp_wait_event(q, QMP_TIMEOUT, &err) <= 1);
    qmp_close(q);
    close(ends[0]);
    return 0;
}
