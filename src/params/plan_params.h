/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_PARAMS_PLAN_PARAMS_H
#define GODWIT_PARAMS_PLAN_PARAMS_H

#include "params/params.h"
#include "policy/plan.h"

/* What the parameters say of the source's means; the host's load is for the caller to add. */
struct plan_input plan_params(const struct params *p);

#endif
