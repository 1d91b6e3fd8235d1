/* SPDX-License-Identifier: Apache-2.0 */
/* What `godwit predict` says: a table for people, an object for machines. */
#ifndef GODWIT_CMD_PREDICT_REPORT_H
#define GODWIT_CMD_PREDICT_REPORT_H

#include "base/error.h"
#include "params/params.h"
#include "predict/outlook.h"
#include "predict/watch.h"

#include <stdbool.h>

#define PREDICT_CHANNELS 2

struct predict_report {
    const struct params *params;
    const struct watch *watch;
    const struct outlook_question *question;
    const struct outlook *outlook;
    bool measured; /* the link's rate, and not said */
};

/* Whether the policy that was set ends surely, or else any does. */
bool predict_ends(const struct predict_report *r);
/* On stdout. */
int predict_print_text(const struct predict_report *r, struct error *err);
int predict_print_json(const struct predict_report *r, struct error *err);

#endif
