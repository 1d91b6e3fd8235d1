/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/report.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* Enough of a session to tell migrations apart. */
#define NAME_SIZE 9

static void name_of(const uint8_t session[SESSION_SIZE], char name[NAME_SIZE]) {
    snprintf(name, NAME_SIZE, "%02x%02x%02x%02x", session[0], session[1], session[2], session[3]);
}

static void event(const struct shared *s, const char *name, json_t *fields) {
    if (s->config->event != NULL) {
        s->config->event(s->config->opaque, name, fields);
    } else {
        json_decref(fields);
    }
}

void report_listening(const struct shared *s, const char *at) {
    log_notice("listening at %s", at);
    event(s, "listening", json_pack("{s:s}", "address", at));
}

void report_refused(const struct shared *s, const char *peer, const struct error *why) {
    log_warning("refused %s: %s", peer, why->desc);
    event(s, "refused",
          json_pack("{s:s, s:s, s:s}", "peer", peer, "class", error_class_name(why->class), "desc", why->desc));
}

void report_opened(const struct shared *s, const struct member *m, const char *from, const char *to) {
    char name[NAME_SIZE];
    name_of(m->of->session, name);
    if (m->number == 0) {
        log_notice("migration %s begins: %s to %s", name, from, to);
    } else {
        log_info("migration %s: connection %u, %s to %s", name, m->number, from, to);
    }
    event(s, "opened",
          json_pack("{s:s, s:i, s:s, s:s}", "migration", name, "connection", (int)m->number, "from", from, "to", to));
}

/* What the reader has understood of the connection. */
static json_t *understood(const struct reader *r) {
    const struct reader_counts *n = reader_counts(r);
    return json_pack("{s:s, s:I, s:I, s:I, s:s?}", "kind", reader_kind_name(reader_kind(r)), "pages",
                     (json_int_t)n->pages, "zero", (json_int_t)n->zeros, "sections", (json_int_t)n->sections,
                     "opaque-since", n->why);
}

void report_closed(const struct shared *s, const struct member *m, const struct error *why) {
    char name[NAME_SIZE];
    const struct carry *c = m->carry;
    name_of(m->of->session, name);
    log_info("migration %s: connection %u ended: %llu bytes taken from QEMU, %llu from the other relay%s%s", name,
             m->number, (unsigned long long)c->sent.bytes, (unsigned long long)c->taken.bytes, why != NULL ? ": " : "",
             why != NULL ? why->desc : "");
    json_t *fields = json_pack("{s:s, s:i, s:I, s:I, s:s?}", "migration", name, "connection", (int)m->number, "sent",
                               (json_int_t)c->sent.bytes, "taken", (json_int_t)c->taken.bytes, "error",
                               why != NULL ? why->desc : NULL);
    if (c->reader != NULL) {
        json_object_set_new(fields, "stream", understood(c->reader));
    }
    event(s, "closed", fields);
}

void report_end(const struct shared *s, const uint8_t session[SESSION_SIZE], const struct migration_end *end) {
    char name[NAME_SIZE];
    bool failed = error_is_set(&end->failure);
    name_of(session, name);
    if (failed) {
        log_warning("migration %s was cut off: %s", name, end->failure.desc);
    } else {
        log_notice("migration %s was carried: %u connection%s, %.1f MiB", name, end->streams,
                   end->streams == 1 ? "" : "s", (double)end->bytes / (1 << 20));
    }
    event(s, "ended",
          json_pack("{s:s, s:i, s:I, s:s, s:s?}", "migration", name, "connections", (int)end->streams, "bytes",
                    (json_int_t)end->bytes, "status", failed ? "failed" : "carried", "error",
                    failed ? end->failure.desc : NULL));
}
