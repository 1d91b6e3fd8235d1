/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_MIGRATE_PLAN_PARAMS_H
#define GODWIT_MIGRATE_PLAN_PARAMS_H

#include "migrate/params.h"
#include "policy/plan.h"

/* What the parameters say of the source's means; the host's load is for the caller to add. */
struct plan_input plan_params(const struct params *p);

#endif
