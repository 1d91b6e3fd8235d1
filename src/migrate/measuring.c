/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/measuring.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MEASURE_TIME CLOCK_S
#define MEASURE_BYTES (UINT64_C(1) << 30)
#define MEASURE_SETTLE (250 * CLOCK_MS)
#define MEASURE_SETTLE_BYTES (UINT64_C(64) << 20)
#define PIECE (256u << 10)
/* At one call: others are to be heard too. */
#define PIECES 16

/* True when there is enough. */
static bool take(struct measuring *m, uint64_t n, int64_t now) {
    m->seen += n;
    if (m->begun == 0) {
        m->begun = now;
    }
    if (m->counted_at == 0) {
        bool settled = now - m->begun >= MEASURE_SETTLE || m->seen >= MEASURE_SETTLE_BYTES;
        m->counted_at = settled ? now : 0;
        return false;
    }
    m->bytes += n;
    int64_t time = now - m->counted_at;
    if (time < MEASURE_TIME / MEASURE_PARTS && m->seen < MEASURE_BYTES) {
        return false;
    }
    m->parts[m->count++] = (struct measured){ m->bytes, time > 0 ? time : 1 };
    m->counted_at = now;
    m->bytes = 0;
    return m->count == MEASURE_PARTS || m->seen >= MEASURE_BYTES;
}

static int faster_first(const void *a, const void *b) {
    double x = measured_rate(a), y = measured_rate(b);
    return (x < y) - (x > y);
}

/* The second best part: a host that was busy for a moment made the others slower, and one may be a burst. */
static void say_result(struct measuring *m, int fd, const char *peer) {
    uint8_t out[MEASURED_SIZE];
    qsort(m->parts, m->count, sizeof(m->parts[0]), faster_first);
    const struct measured *measured = &m->parts[m->count > 1 ? 1 : 0];
    measured_encode(measured, out);
    if (send(fd, out, sizeof(out), MSG_NOSIGNAL) < 0) {
        log_debug("%s left before it was told", peer);
    }
    log_info("measured the link from %s: %.0f Mbit/s", peer, measured_rate(measured) * 8 / 1e6);
    /* The other end closes: a close here, with bytes on their way, may overtake the answer as a reset. */
    m->told = true;
}

enum measuring_state measuring_read(struct measuring *m, int fd, const char *peer) {
    uint8_t *filler = malloc(PIECE);
    enum measuring_state state = filler != NULL ? MEASURING_ON : MEASURING_LEFT;
    for (int i = 0; i < PIECES && state == MEASURING_ON; i++) {
        ssize_t n = recv(fd, filler, PIECE, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n <= 0) {
            state = m->told ? MEASURING_DONE : MEASURING_LEFT;
        } else if (!m->told && take(m, (uint64_t)n, clock_now())) {
            say_result(m, fd, peer);
        }
    }
    free(filler);
    return state;
}
