/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_MIGRATE_AFFINITY_H
#define GODWIT_MIGRATE_AFFINITY_H

#include "base/error.h"

/* Ties the calling thread, and what it starts from now on, to the CPUs of `cpu-affinity`; "auto" changes nothing. */
int affinity_apply(const char *list, struct error *err);

#endif
