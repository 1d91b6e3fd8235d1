/* SPDX-License-Identifier: Apache-2.0 */
/* QMP requests: what QEMU says about ill-formed ones, mishaps that were asked for, and the way to the commands. */
#ifndef STUNT_COMMAND_H
#define STUNT_COMMAND_H

#include "machine.h"

/* One command. The arguments are checked before it runs; it runs under the machine lock and returns a new reference, or
 * NULL with an error: ERROR_REFUSED is QMP's class DeviceNotFound, everything else GenericError. */
struct command {
    const char *name;
    /* "name:type name:type? …" with type s(tring), i(nteger), b(oolean), o(bject), a(rray), and ? for optional.
     * NULL: any arguments. */
    const char *arguments;
    json_t *(*run)(struct machine *machine, json_t *arguments, struct error *err);
};

/* The table in commands.c, ended by a NULL name. */
extern const struct command commands[];

#define COMMAND_VERSION "{\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"stunt\"}"
#define COMMAND_GREETING "{\"QMP\": {\"version\": " COMMAND_VERSION ", \"capabilities\": [\"oob\"]}}"

/* For struct qmp_handler: the context is the machine. */
json_t *command_answer(void *context, json_t *request, bool *ready);
bool command_over(void *context);

#endif
