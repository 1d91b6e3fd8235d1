/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_PARAMS_CONVERGE_PARAMS_H
#define GODWIT_PARAMS_CONVERGE_PARAMS_H

#include "params/params.h"
#include "policy/converge.h"

/* What the parameters say of convergence; `force` is not one of them. */
struct converge_config converge_params(const struct params *p);

#endif
