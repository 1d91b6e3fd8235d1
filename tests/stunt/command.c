/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>

static const char *type_name(char type) {
    switch (type) {
    case 's':
        return "string";
    case 'i':
        return "integer";
    case 'b':
        return "boolean";
    case 'a':
        return "array";
    default:
        return "object";
    }
}

static bool has_type(const json_t *value, char type) {
    switch (type) {
    case 's':
        return json_is_string(value);
    case 'i':
        return json_is_integer(value);
    case 'b':
        return json_is_boolean(value);
    case 'a':
        return json_is_array(value);
    default:
        return json_is_object(value);
    }
}

/* One "name:type" or "name:type?"; counts it when it is there. */
static int check_argument(const json_t *arguments, char *word, size_t *known, struct error *err) {
    char *colon = strchr(word, ':');
    *colon = '\0';
    const json_t *value = json_object_get(arguments, word);
    if (value == NULL) {
        return colon[2] == '?' ? 0 : error_set(err, ERROR_VMM, "Parameter '%s' is missing", word);
    }
    ++*known;
    if (has_type(value, colon[1])) {
        return 0;
    }
    return error_set(err, ERROR_VMM, "Invalid parameter type for '%s', expected: %s", word, type_name(colon[1]));
}

static bool is_listed(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += length) {
        if ((at == list || at[-1] == ' ') && at[length] == ':') {
            return true;
        }
    }
    return false;
}

static int check_arguments(const struct command *command, json_t *arguments, struct error *err) {
    if (command->arguments == NULL) {
        return 0;
    }
    char list[256];
    snprintf(list, sizeof(list), "%s", command->arguments);
    size_t known = 0;
    char *rest = NULL;
    for (char *word = strtok_r(list, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (check_argument(arguments, word, &known, err) < 0) {
            return -1;
        }
    }
    const char *name;
    json_t *value;
    json_object_foreach(arguments, name, value) {
        if (!is_listed(command->arguments, name)) {
            return error_set(err, ERROR_VMM, "Parameter '%s' is unexpected", name);
        }
    }
    return 0;
}

/* Whether the mishap's turn has come, and which it is. */
static bool meets_mishap(struct machine *machine, const char *name, enum mishap_kind *kind) {
    bool met = false;
    for (size_t i = 0; i < machine->options.mishap_count; i++) {
        struct mishap *mishap = &machine->options.mishaps[i];
        if (strcmp(mishap->command, name) == 0) {
            mishap->seen++;
            if (!met && (mishap->nth == 0 || mishap->nth == mishap->seen)) {
                *kind = mishap->kind;
                met = true;
            }
        }
    }
    return met;
}

static json_t *error_answer(const char *class, const char *desc) {
    return json_pack("{s:{s:s, s:s}}", "error", "class", class, "desc", desc);
}

static json_t *not_found(const char *name, const char *format) {
    char text[256];
    snprintf(text, sizeof(text), format, name);
    return error_answer("CommandNotFound", text);
}

static const struct command *find_command(const char *name) {
    for (const struct command *command = commands; command->name != NULL; command++) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

static json_t *run_command(struct machine *machine, const struct command *command, json_t *arguments) {
    CLEANUP_FREE struct error *err = calloc(1, sizeof(*err));
    json_t *value = NULL;
    if (check_arguments(command, arguments, err) == 0) {
        value = command->run(machine, arguments, err);
    }
    if (value != NULL) {
        return json_pack("{s:o}", "return", value);
    }
    return error_answer(err->class == ERROR_REFUSED ? "DeviceNotFound" : "GenericError", err->desc);
}

/* NULL for no answer at all. */
static json_t *dispatch(struct machine *machine, const char *name, json_t *arguments, bool *ready) {
    enum mishap_kind kind = MISHAP_REFUSE;
    const char *blocks = machine->options.block_after;
    machine->blocked = machine->blocked || (blocks != NULL && strcmp(name, blocks) == 0);
    if (meets_mishap(machine, name, &kind)) {
        char text[128];
        snprintf(text, sizeof(text), "stunt refuses %s", name);
        if (kind == MISHAP_DIE) {
            fprintf(stderr, "stunt: dies of %s\n", name);
            _exit(4);
        }
        return kind == MISHAP_HANG ? NULL : error_answer("GenericError", text);
    }
    if (strcmp(name, "qmp_capabilities") == 0) {
        if (*ready) {
            return error_answer("CommandNotFound", "Capabilities negotiation is already complete, command ignored");
        }
        *ready = true;
        return json_pack("{s:{}}", "return");
    }
    const struct command *command = find_command(name);
    if (!*ready) {
        return not_found(name, "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    return command == NULL ? not_found(name, "The command %s has not been found")
                           : run_command(machine, command, arguments);
}

/* What is wrong with the request as such; NULL when nothing is. */
static const char *find_fault(json_t *request, char *text, size_t size) {
    const char *name;
    json_t *value;
    json_object_foreach(request, name, value) {
        if (strcmp(name, "execute") != 0 && strcmp(name, "arguments") != 0 && strcmp(name, "id") != 0) {
            snprintf(text, size, "QMP input member '%s' is unexpected", name);
            return text;
        }
    }
    if (json_object_get(request, "execute") == NULL) {
        return "QMP input lacks member 'execute'";
    }
    if (!json_is_string(json_object_get(request, "execute"))) {
        return "QMP input member 'execute' must be a string";
    }
    const json_t *arguments = json_object_get(request, "arguments");
    return arguments != NULL && !json_is_object(arguments) ? "QMP input member 'arguments' must be an object" : NULL;
}

json_t *command_answer(void *context, json_t *request, bool *ready) {
    struct machine *machine = context;
    if (!json_is_object(request)) {
        return error_answer("GenericError", "QMP input must be a JSON object");
    }
    char text[256];
    const char *fault = find_fault(request, text, sizeof(text));
    json_t *answer;
    if (fault != NULL) {
        answer = error_answer("GenericError", fault);
    } else {
        json_t *arguments = json_object_get(request, "arguments");
        json_t *none = json_object();
        LOCK_GUARD(&machine->lock);
        answer = dispatch(machine, json_string_value(json_object_get(request, "execute")),
                          arguments != NULL ? arguments : none, ready);
        json_decref(none);
    }
    json_t *id = json_object_get(request, "id");
    if (answer != NULL && id != NULL) {
        json_object_set(answer, "id", id);
    }
    return answer;
}

bool command_over(void *context) {
    struct machine *machine = context;
    LOCK_GUARD(&machine->lock);
    return machine->quit;
}
