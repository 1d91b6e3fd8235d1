/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/migrations.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void migrations_init(struct migrations *all) {
    *all = (struct migrations){ 0 };
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->opened, NULL);
}

/* With the lock. */
static void fail(struct migrations *all, struct migration *g, const struct error *why) {
    if (g->failed) {
        return;
    }
    g->failed = true;
    g->failure = *why;
    struct error others = *why;
    error_prefix(&others, "another connection of the migration failed: ");
    for (struct member *m = g->members; m != NULL; m = m->next) {
        carry_fail(m->carry, &others);
    }
    pthread_cond_broadcast(&all->opened);
}

/* Before another of them has brought one more byte: a QEMU that waits for a channel which is gone hears nothing else.
 */
static void member_failed(void *opaque, const struct error *why) {
    struct member *m = opaque;
    LOCK_GUARD(&m->all->lock);
    fail(m->all, m->of, why);
}

/* The next two are called with the lock. */
static struct migration *make(struct migrations *all, struct error *err) {
    struct migration *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for a migration");
        return NULL;
    }
    g->next = all->list;
    all->list = g;
    return g;
}

static int join(struct migrations *all, struct migration *g, struct member *m, struct error *err) {
    if (g->joined == MIGRATION_STREAMS) {
        return error_set(err, ERROR_REFUSED, "a migration has more than %d connections", MIGRATION_STREAMS);
    }
    m->all = all;
    m->of = g;
    m->carry->on_failure = member_failed;
    m->carry->opaque = m;
    m->number = g->joined++;
    m->next = g->members;
    g->members = m;
    return 0;
}

/* Its end may lie behind bytes that nobody has read yet. */
static bool has_closed(const struct carry *c) {
    struct pollfd p = { .fd = c->qemu, .events = POLLRDHUP };
    return atomic_load(&c->qemu_ended) || (poll(&p, 1, 0) > 0 && p.revents != 0);
}

static bool has_ended(const struct migration *g) {
    for (const struct member *m = g->members; m != NULL; m = m->next) {
        if (has_closed(m->carry)) {
            return true;
        }
    }
    return g->ended || g->failed;
}

int migrations_join_whose(struct migrations *all, const char *whose, struct member *m, struct error *err) {
    LOCK_GUARD(&all->lock);
    struct migration *g = all->list;
    while (g != NULL && (strcmp(g->whose, whose) != 0 || has_ended(g))) {
        g = g->next;
    }
    if (g == NULL) {
        uint8_t session[SESSION_SIZE];
        if (getrandom(session, sizeof(session), 0) != (ssize_t)sizeof(session)) {
            return error_errno(err, ERROR_SYSTEM, "no random bytes");
        }
        if ((g = make(all, err)) == NULL) {
            return -1;
        }
        memcpy(g->session, session, sizeof(session));
        snprintf(g->whose, sizeof(g->whose), "%s", whose);
    }
    return join(all, g, m, err);
}

int migrations_join_session(struct migrations *all, const uint8_t session[SESSION_SIZE], unsigned number,
                            struct member *m, struct error *err) {
    LOCK_GUARD(&all->lock);
    struct migration *g = all->list;
    while (g != NULL && memcmp(g->session, session, SESSION_SIZE) != 0) {
        g = g->next;
    }
    if ((g != NULL ? g->joined : 0) != number) {
        return error_set(err, ERROR_PEER, "connection %u of a migration came out of its turn", number);
    }
    if (g != NULL && g->failed) {
        return error_set(err, ERROR_PEER, "the migration has failed: %s", g->failure.desc);
    }
    if (g == NULL) {
        if ((g = make(all, err)) == NULL) {
            return -1;
        }
        memcpy(g->session, session, SESSION_SIZE);
    }
    return join(all, g, m, err);
}

int migrations_await_turn(struct migrations *all, struct member *m, struct error *err) {
    struct migration *g = m->of;
    LOCK_GUARD(&all->lock);
    while (!g->failed && g->opened < m->number) {
        pthread_cond_wait(&all->opened, &all->lock);
    }
    return g->failed
               ? error_set(err, g->failure.class, "another connection of the migration failed: %s", g->failure.desc)
               : 0;
}

void migrations_opened(struct migrations *all, struct member *m) {
    LOCK_GUARD(&all->lock);
    m->of->opened++;
    pthread_cond_broadcast(&all->opened);
}

static void remove_member(struct migration *g, const struct member *m) {
    struct member **link = &g->members;
    while (*link != m) {
        link = &(*link)->next;
    }
    *link = m->next;
}

static void forget(struct migrations *all, struct migration *g) {
    struct migration **link = &all->list;
    while (*link != g) {
        link = &(*link)->next;
    }
    *link = g->next;
    free(g);
}

void migrations_leave(struct migrations *all, struct member *m, const struct error *why, struct migration_end *end) {
    LOCK_GUARD(&all->lock);
    struct migration *g = m->of;
    remove_member(g, m);
    g->ended = true;
    g->bytes += m->carry->sent.bytes + m->carry->taken.bytes;
    if (why != NULL) {
        fail(all, g, why);
    }
    *end = (struct migration_end){ .last = g->members == NULL };
    if (end->last) {
        end->streams = g->joined;
        end->bytes = g->bytes;
        end->failure = g->failure;
        forget(all, g);
    }
    m->of = NULL;
}

void migrations_fail_all(struct migrations *all, const struct error *why) {
    LOCK_GUARD(&all->lock);
    for (struct migration *g = all->list; g != NULL; g = g->next) {
        fail(all, g, why);
    }
}
