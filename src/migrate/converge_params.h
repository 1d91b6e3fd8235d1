/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_MIGRATE_CONVERGE_PARAMS_H
#define GODWIT_MIGRATE_CONVERGE_PARAMS_H

#include "migrate/params.h"
#include "policy/converge.h"

/* What the parameters say of convergence; `force` is not one of them. */
struct converge_config converge_params(const struct params *p);

#endif
