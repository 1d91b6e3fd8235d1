/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/visitors.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_PATIENCE (5 * CLOCK_S)
#define CANDIDATE_INTERVAL CLOCK_S /* between two pings to a candidate */
#define LISTEN_PAUSE CLOCK_S
#define TOLD_PATIENCE (5 * CLOCK_S) /* to close */

static int read_visitor(void *opaque, struct error *err);
static int look_after(void *opaque, struct error *err);
static int let_in(void *opaque, struct error *err);
static int listen_again(void *opaque, struct error *err);

void visitors_init(struct visitors *all, struct loop *loop, const struct visitors_owner *owner, void *opaque,
                   struct events *events, int64_t silence) {
    *all = (struct visitors){ .loop = loop, .owner = owner, .opaque = opaque, .events = events, .silence = silence };
    all->listener = (struct loop_watch){ .fd = -1, .ready = let_in, .opaque = all };
    all->again = (struct loop_deadline){ .due = listen_again, .opaque = all };
    for (size_t i = 0; i < VISITORS; i++) {
        all->at[i].fd = -1;
    }
}

int visitors_listen(struct visitors *all, const struct address *address, struct error *err) {
    all->listener.fd = address_listen(address, err);
    if (all->listener.fd < 0) {
        return -1;
    }
    loop_watch(all->loop, &all->listener);
    return 0;
}

static int listen_again(void *opaque, struct error *err) {
    struct visitors *all = opaque;
    (void)err;
    loop_watch(all->loop, &all->listener);
    return 0;
}

/* The place is free; what its descriptor becomes is the caller's business. */
static int free_place(struct visitor *v) {
    loop_unwatch(v->all->loop, &v->watch);
    loop_disarm(v->all->loop, &v->deadline);
    candidate_end(&v->candidate);
    int fd = v->fd;
    v->fd = -1;
    return fd;
}

static void leave(struct visitor *v) {
    close(free_place(v));
}

void visitors_close(struct visitors *all) {
    for (size_t i = 0; i < VISITORS; i++) {
        if (all->at[i].fd >= 0) {
            leave(&all->at[i]);
        }
    }
    if (all->loop != NULL && all->listener.fd >= 0) {
        loop_unwatch(all->loop, &all->listener);
        loop_disarm(all->loop, &all->again);
        close(all->listener.fd);
        all->listener.fd = -1;
    }
}

/* Each gets its line, but a flood of them does not fill the disk: beyond so many a second they are only counted. */
#define REFUSALS_A_SECOND 50

static bool may_say(struct visitors *all) {
    struct refusals *r = &all->refusals;
    if (clock_now() - r->second > CLOCK_S) {
        if (r->said > REFUSALS_A_SECOND) {
            log_warning("refused %u more within a second", r->said - REFUSALS_A_SECOND);
        }
        *r = (struct refusals){ .second = clock_now() };
    }
    return ++r->said <= REFUSALS_A_SECOND;
}

static void refuse(struct visitor *v, const char *why) {
    if (may_say(v->all)) {
        bool source = v->doing == VISITOR_BRINGS_GUEST;
        log_warning("refused %s%s: %s%s", source ? "the migration from " : "", v->peer, why,
                    source && !v->all->owner->serves(v->all->opaque) ? "; waiting for another" : "");
        events_emit(v->all->events, "refused", json_pack("{s:s, s:s}", "peer", v->peer, "why", why));
    }
    leave(v);
}

/* A candidate, who is told too. */
static void turn_away(struct visitor *v, const struct error *why) {
    candidate_refuse(v->fd, why);
    refuse(v, why->desc);
}

static void answer(struct visitor *v, enum welcome_status status, const uint8_t *session) {
    struct welcome w = { .version = PROTOCOL_VERSION, .status = (uint8_t)status };
    if (session != NULL) {
        memcpy(w.session, session, SESSION_SIZE);
    }
    uint8_t out[WELCOME_SIZE];
    welcome_encode(&w, out);
    if (send(v->fd, out, sizeof(out), MSG_NOSIGNAL) < 0) {
        log_debug("%s left before it was answered", v->peer);
    }
}

/* It is one of the migration's connections from now on, and blocks. */
static int hand_on(struct visitor *v) {
    int fd = free_place(v);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

void visitors_make_way(struct visitors *all) {
    struct error busy = { 0 };
    error_set(&busy, ERROR_PEER, "the receiver is busy with another migration");
    for (size_t i = 0; i < VISITORS; i++) {
        struct visitor *v = &all->at[i];
        if (v->fd >= 0 && v->doing == VISITOR_MEASURES) {
            leave(v);
        } else if (v->fd >= 0 && v->doing == VISITOR_BRINGS_GUEST) {
            turn_away(v, &busy);
        }
    }
}

/* A source, or one who only `checks` whether it would fit. */
static int accept_control(struct visitor *v, bool checks, struct error *err) {
    if (v->all->owner->serves(v->all->opaque)) {
        answer(v, WELCOME_BUSY, NULL);
        refuse(v, "another migration is under way");
        return 0;
    }
    uint8_t session[SESSION_SIZE];
    if (getrandom(session, SESSION_SIZE, 0) != SESSION_SIZE) {
        return error_errno(err, ERROR_SYSTEM, "getrandom");
    }
    answer(v, WELCOME_OK, session);
    v->checks = checks;
    v->doing = VISITOR_BRINGS_GUEST;
    v->until = clock_now() + CANDIDATE_PATIENCE;
    candidate_begin(&v->candidate, session);
    loop_arm(v->all->loop, &v->deadline, clock_now() + CANDIDATE_INTERVAL);
    return 0;
}

/* It knows then, and is done. Takes the reference to `request`. */
static void tell_checked(struct visitor *v, json_t *request) {
    json_t *answer = v->all->owner->check(v->all->opaque, json_object_get(request, "args"));
    log_info("checked for %s", v->peer);
    candidate_tell(v->fd, answer);
    json_decref(answer);
    json_decref(request);
    /* The other end closes: a close here, with a ping of its unread, may overtake the answer as a reset. */
    candidate_end(&v->candidate);
    v->doing = VISITOR_WAS_TOLD;
    loop_arm(v->all->loop, &v->deadline, clock_now() + TOLD_PATIENCE);
}

static void await_its_end(struct visitor *v) {
    char filler[4096];
    ssize_t n = recv(v->fd, filler, sizeof(filler), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        leave(v);
    }
}

/* The one that is looked at is decided on before the next request is read. */
static int read_candidate(struct visitor *v, struct error *err) {
    struct visitors *all = v->all;
    if (all->owner->has_source(all->opaque)) {
        return 0;
    }
    struct error why = { 0 };
    json_t *request = NULL;
    int rc = candidate_read(&v->candidate, v->fd, &request, &why);
    if (rc < 0) {
        turn_away(v, &why);
    }
    if (rc <= 0) {
        return 0;
    }
    if (v->checks) {
        tell_checked(v, request);
        return 0;
    }
    log_info("migration from %s", v->peer);
    struct arrival arrival = { .fd = hand_on(v), .peer = v->peer, .session = v->candidate.session, .request = request };
    return all->owner->take_source(all->opaque, &arrival, err);
}

/* One at a time, and nobody while a migration is served: its link is not to be filled by others. */
static void accept_measuring(struct visitor *v) {
    bool busy = v->all->owner->serves(v->all->opaque);
    for (size_t i = 0; i < VISITORS; i++) {
        busy |= v->all->at[i].fd >= 0 && v->all->at[i].doing == VISITOR_MEASURES;
    }
    if (busy) {
        answer(v, WELCOME_BUSY, NULL);
        refuse(v, "another migration or measurement is under way");
        return;
    }
    answer(v, WELCOME_OK, NULL);
    v->doing = VISITOR_MEASURES;
    v->until = clock_now() + MEASURE_PATIENCE;
    loop_arm(v->all->loop, &v->deadline, v->until);
}

static void go_on_measuring(struct visitor *v) {
    enum measuring_state state = measuring_read(&v->measuring, v->fd, v->peer);
    if (state == MEASURING_LEFT) {
        refuse(v, "it left before the link was measured");
    } else if (state == MEASURING_DONE) {
        leave(v);
    }
}

static int accept_data(struct visitor *v, const struct hello *h, struct error *err) {
    struct visitors *all = v->all;
    if (!all->owner->expects(all->opaque, h)) {
        answer(v, WELCOME_SESSION, NULL);
        refuse(v, "it does not belong to this migration");
        return 0;
    }
    answer(v, WELCOME_OK, h->session);
    return all->owner->take_channel(all->opaque, h, hand_on(v), err);
}

static int judge(struct visitor *v, struct error *err) {
    struct hello h;
    if (hello_decode(v->hello, &h) < 0) {
        refuse(v, "not a godwit");
        return 0;
    }
    if (h.version != PROTOCOL_VERSION) {
        char why[80];
        snprintf(why, sizeof(why), "it speaks protocol %d, this godwit speaks %d", h.version, PROTOCOL_VERSION);
        answer(v, WELCOME_VERSION, NULL);
        refuse(v, why);
        return 0;
    }
    if (h.role == ROLE_CONTROL || h.role == ROLE_CHECK) {
        return accept_control(v, h.role == ROLE_CHECK, err);
    }
    if (h.role == ROLE_MEASURE) {
        accept_measuring(v);
        return 0;
    }
    return accept_data(v, &h, err);
}

static bool looks_like_http(const struct visitor *v) {
    static const char *const verbs[] = { "GET ", "POST", "HEAD", "PUT ", "OPTI", "CONN", "DELE", "PRI " };
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (v->have >= 4 && memcmp(v->hello, verbs[i], 4) == 0) {
            return true;
        }
    }
    return false;
}

static int read_hello(struct visitor *v, struct error *err) {
    ssize_t n = recv(v->fd, v->hello + v->have, HELLO_SIZE - v->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        refuse(v, "it left without a hello");
        return 0;
    }
    v->have += (unsigned)n;
    if (!hello_may_begin(v->hello, v->have)) {
        refuse(v, looks_like_http(v) ? "an HTTP request; this port speaks godwit" : "not a godwit");
        return 0;
    }
    return v->have == HELLO_SIZE ? judge(v, err) : 0;
}

static int read_visitor(void *opaque, struct error *err) {
    struct visitor *v = opaque;
    switch (v->doing) {
    case VISITOR_BRINGS_GUEST:
        return read_candidate(v, err);
    case VISITOR_WAS_TOLD:
        await_its_end(v);
        return 0;
    case VISITOR_MEASURES:
        go_on_measuring(v);
        return 0;
    default:
        return read_hello(v, err);
    }
}

static void look_after_candidate(struct visitor *v) {
    struct visitors *all = v->all;
    struct error why = { 0 };
    int64_t now = clock_now();
    if (now >= v->until) {
        error_set(&why, ERROR_TIMEOUT, "it brought no guest within %.0f s", (double)CANDIDATE_PATIENCE / 1e9);
    } else if (now - v->candidate.heard_at >= all->silence) {
        error_set(&why, ERROR_LINK, "the other godwit has been silent for %.0f s: the network is cut or it hangs",
                  (double)all->silence / 1e9);
    } else if (candidate_ping(v->fd) < 0) {
        error_set(&why, ERROR_LINK, "the connection broke before it brought its guest");
    }
    if (error_is_set(&why)) {
        turn_away(v, &why);
        return;
    }
    int64_t next = now + CANDIDATE_INTERVAL;
    loop_arm(all->loop, &v->deadline, next < v->until ? next : v->until);
}

/* A moment has come at which it is looked whether it may stay. */
static int look_after(void *opaque, struct error *err) {
    struct visitor *v = opaque;
    (void)err;
    if (v->doing == VISITOR_BRINGS_GUEST) {
        look_after_candidate(v);
    } else if (v->doing == VISITOR_WAS_TOLD) {
        leave(v);
    } else {
        refuse(v, v->doing == VISITOR_MEASURES ? "it measured for too long" : "it said no hello within 5 s");
    }
    return 0;
}

/* The peer's name without its port. */
static size_t host_length(const struct visitor *v) {
    const char *port = strstr(v->peer, " port ");
    return port != NULL ? (size_t)(port - v->peer) : strlen(v->peer);
}

static bool same_host(const struct visitor *a, const struct visitor *b) {
    return host_length(a) == host_length(b) && memcmp(a->peer, b->peer, host_length(a)) == 0;
}

/* How many connections the host of `v` has here. */
static unsigned crowd_of(const struct visitors *all, const struct visitor *v) {
    unsigned n = 0;
    for (size_t i = 0; i < VISITORS; i++) {
        n += same_host(&all->at[i], v);
    }
    return n;
}

/* All places are taken: the one that has to go. Those who have said no hello go before those who have. */
static struct visitor *find_intruder(struct visitors *all) {
    struct visitor *worst = &all->at[0];
    for (size_t i = 1; i < VISITORS; i++) {
        struct visitor *v = &all->at[i];
        unsigned mine = crowd_of(all, v), most = crowd_of(all, worst);
        bool silent = v->doing == VISITOR_SAYS_HELLO, other = worst->doing == VISITOR_SAYS_HELLO;
        if (mine != most ? mine > most : silent != other ? silent : v->came_at < worst->came_at) {
            worst = v;
        }
    }
    return worst;
}

static struct visitor *room_for_one(struct visitors *all) {
    for (size_t i = 0; i < VISITORS; i++) {
        if (all->at[i].fd < 0) {
            return &all->at[i];
        }
    }
    struct visitor *v = find_intruder(all);
    refuse(v, v->doing == VISITOR_SAYS_HELLO ? "too many connections that say nothing" : "too many connections");
    return v;
}

/* There is no descriptor left: who is here goes on, and who comes waits. To ask again at once would be a busy loop. A
 * migration whose channels cannot come does not wait for that. */
static int stop_listening(struct visitors *all, struct error *err) {
    struct rlimit most = { 0 };
    if (all->owner->awaits_channels(all->opaque)) {
        int why = errno;
        getrlimit(RLIMIT_NOFILE, &most);
        errno = why;
        return error_errno(err, ERROR_SYSTEM,
                           "the migration's connections cannot be taken (this process may open %llu files: "
                           "RLIMIT_NOFILE)",
                           (unsigned long long)most.rlim_cur);
    }
    if (may_say(all)) {
        log_warning("cannot take a connection: %s; trying again in a second", strerror(errno));
    }
    loop_unwatch(all->loop, &all->listener);
    loop_arm(all->loop, &all->again, clock_now() + LISTEN_PAUSE);
    return 0;
}

/* Some at a time: what those say who were let in is read before they have to make room. */
#define LET_IN_AT_ONCE (VISITORS / 4)

static int let_in(void *opaque, struct error *err) {
    struct visitors *all = opaque;
    for (int i = 0; i < LET_IN_AT_ONCE; i++) {
        char peer[sizeof(all->at[0].peer)];
        int fd = address_accept(all->listener.fd, peer, sizeof(peer));
        if (fd < 0) {
            return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : stop_listening(all, err);
        }
        struct visitor *v = room_for_one(all);
        int64_t now = clock_now();
        *v = (struct visitor){ .fd = fd, .all = all, .came_at = now, .until = now + HELLO_PATIENCE };
        memcpy(v->peer, peer, sizeof(peer));
        v->watch = (struct loop_watch){ .fd = fd, .ready = read_visitor, .opaque = v };
        v->deadline = (struct loop_deadline){ .due = look_after, .opaque = v };
        loop_watch(all->loop, &v->watch);
        loop_arm(all->loop, &v->deadline, v->until);
    }
    return 0;
}
