/* SPDX-License-Identifier: Apache-2.0 */
/* The few QOM paths that tell what a machine is made of: /machine, its peripherals and CPUs, /objects. */
#ifndef STUNT_QOM_H
#define STUNT_QOM_H

#include "machine.h"

/* Both return a new reference; ERROR_REFUSED stands for QMP's class DeviceNotFound. */
json_t *qom_list(const struct machine *machine, const char *path, struct error *err);
json_t *qom_get(const struct machine *machine, const char *path, const char *property, struct error *err);

json_t *qom_memdevs(const struct machine *machine);
json_t *qom_cpus(const struct machine *machine);
json_t *qom_hotpluggable_cpus(const struct machine *machine);

/* What the human monitor says to "info ramblock", and to "gpa2hva ADDRESS". New references. */
json_t *qom_ram_blocks(const struct machine *machine);
json_t *qom_host_address(const struct machine *machine, const char *address);

#endif
