/* SPDX-License-Identifier: Apache-2.0 */
/* What converge.c and the policies behind it have between them; nobody else includes this. */
#ifndef GODWIT_POLICY_CONVERGE_POLICY_H
#define GODWIT_POLICY_CONVERGE_POLICY_H

#include "policy/converge.h"

/* What a policy says when nothing common to all decides. */
struct converge_advice {
    unsigned throttle; /* percent; converge.c keeps it within config->max */
    bool offer_force;  /* stays offered once it was */
    const char *reason;
};

/* Each is called at every step of a migration that goes on and can throttle; `advice` comes in with the throttle and
 * reason that leave all as it is. */
void converge_stepped(const struct converge_config *config, const struct converge_input *in,
                      struct converge_stepped_state *s, struct converge_advice *advice);
void converge_staged(const struct converge_input *in, struct converge_staged_state *s, struct converge_advice *advice);
void converge_rate(const struct converge_config *config, const struct converge_input *in, struct converge_rate_state *s,
                   struct converge_advice *advice);

/* measure.c. Bytes of guest memory a second that the link carries; 0: not known. */
double converge_link_rate(const struct converge_input *in);
/* ns of the pause that sending may take. */
int64_t converge_budget(const struct converge_config *config, const struct converge_input *in);
/* Bytes of guest memory that may remain when the guest is stopped; 0 or less: nothing fits. */
double converge_fits(const struct converge_config *config, const struct converge_input *in);

static inline double converge_seconds(int64_t ns) {
    return (double)ns / 1e9;
}

#endif
