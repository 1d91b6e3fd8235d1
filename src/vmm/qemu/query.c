/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/query.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool query_int(const json_t *value, int64_t *n) {
    if (json_is_integer(value)) {
        *n = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value) || isnan(json_real_value(value))) {
        return false;
    }
    double real = json_real_value(value);
    *n = real >= 0x1p63 ? INT64_MAX : real <= -0x1p63 ? INT64_MIN : (int64_t)real;
    return true;
}

bool query_string(const json_t *value, char *text, size_t size) {
    const char *s = json_string_value(value);
    snprintf(text, size, "%s", s ? s : "");
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = ' ';
        }
    }
    return s != NULL;
}

static int nonsense(const char *command, struct error *err) {
    return error_set(err, ERROR_VMM, "QEMU's answer to %s makes no sense", command);
}

bool query_is_x86(const json_t *target, char *arch, size_t size) {
    arch[0] = '\0';
    query_string(json_object_get(target, "arch"), arch, size);
    return strcmp(arch, "x86_64") == 0 || strcmp(arch, "i386") == 0;
}

int query_state(struct qmp *q, struct query_state *state, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    if (qmp_execute(q, "query-status", NULL, &answer, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    json_t *running = json_object_get(answer, "running");
    state->running = json_is_true(running);
    bool named = query_string(json_object_get(answer, "status"), state->name, sizeof(state->name));
    return named && json_is_boolean(running) ? 0 : nonsense("query-status", err);
}

/* A word that is not listed belongs to a newer QEMU: taken for something under way, which every wait bounds. */
static enum vmm_status status_from_name(const char *name) {
    static const struct {
        const char *name;
        enum vmm_status status;
    } names[] = {
        { "none", VMM_IDLE },     { "pre-switchover", VMM_PRE_SWITCHOVER },
        { "device", VMM_DEVICE }, { "completed", VMM_COMPLETED },
        { "failed", VMM_FAILED }, { "cancelled", VMM_CANCELLED },
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0) {
            return names[i].status;
        }
    }
    return VMM_SETTING_UP;
}

static void join(const json_t *strings, char *text, size_t size) {
    size_t i, used = 0;
    json_t *item;
    text[0] = '\0';
    json_array_foreach(strings, i, item) {
        char one[256];
        query_string(item, one, sizeof(one));
        int n = snprintf(text + used, size - used, "%s%s", used ? "; " : "", one);
        if (n < 0 || (size_t)n >= size - used) {
            return;
        }
        used += (size_t)n;
    }
}

int query_migration(struct qmp *q, struct query_migration *m, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    *m = (struct query_migration){ .name = "none" };
    if (qmp_execute(q, "query-migrate", NULL, &answer, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    if (!json_is_object(answer)) {
        return nonsense("query-migrate", err);
    }
    json_t *status = json_object_get(answer, "status");
    if (status != NULL && !query_string(status, m->name, sizeof(m->name))) {
        return nonsense("query-migrate", err);
    }
    m->status = status_from_name(m->name);
    query_string(json_object_get(answer, "error-desc"), m->error, sizeof(m->error));
    join(json_object_get(answer, "blocked-reasons"), m->blocked, sizeof(m->blocked));
    m->has_ram = query_int(json_object_get(json_object_get(answer, "ram"), "total"), &m->ram_total);
    return 0;
}

bool query_migration_live(const struct query_migration *m) {
    return m->status == VMM_SETTING_UP || m->status == VMM_PRE_SWITCHOVER || m->status == VMM_DEVICE;
}

/* The TYPE of "child<TYPE>"; false for a property that is no child. */
static bool child_type(const json_t *property, char *type, size_t size) {
    char text[256];
    query_string(json_object_get(property, "type"), text, sizeof(text));
    size_t length = strlen(text);
    if (strncmp(text, "child<", 6) != 0 || text[length - 1] != '>') {
        return false;
    }
    snprintf(type, size, "%.*s", (int)(length - 7), text + 6);
    return true;
}

int query_children(struct qmp *q, const char *path, query_child_fn *each, void *opaque, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    if (qmp_execute(q, "qom-list", json_pack("{s:s}", "path", path), &answer, QMP_TIMEOUT, err) < 0) {
        if (strcmp(qmp_refusal(q), "DeviceNotFound") == 0) {
            error_clear(err);
            return 0;
        }
        return -1;
    }
    if (!json_is_array(answer)) {
        return nonsense("qom-list", err);
    }
    size_t i;
    json_t *property;
    json_array_foreach(answer, i, property) {
        char name[256], type[256];
        if (query_string(json_object_get(property, "name"), name, sizeof(name)) &&
            child_type(property, type, sizeof(type))) {
            int result = each(opaque, name, type, err);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

static int get_property(struct qmp *q, const char *path, const char *property, json_t **value, struct error *err) {
    json_t *args = json_pack("{s:s, s:s}", "path", path, "property", property);
    return qmp_execute(q, "qom-get", args, value, QMP_TIMEOUT, err);
}

static int wrong_type(const char *path, const char *property, struct error *err) {
    return error_set(err, ERROR_VMM, "QEMU's property %s of %s makes no sense", property, path);
}

int query_property_int(struct qmp *q, const char *path, const char *property, int64_t *n, struct error *err) {
    CLEANUP_JSON json_t *value = NULL;
    if (get_property(q, path, property, &value, err) < 0) {
        return -1;
    }
    return query_int(value, n) ? 0 : wrong_type(path, property, err);
}

int query_property_bool(struct qmp *q, const char *path, const char *property, bool *b, struct error *err) {
    CLEANUP_JSON json_t *value = NULL;
    if (get_property(q, path, property, &value, err) < 0) {
        return -1;
    }
    *b = json_is_true(value);
    return json_is_boolean(value) ? 0 : wrong_type(path, property, err);
}

int query_property_string(struct qmp *q, const char *path, const char *property, char *text, size_t size,
                          struct error *err) {
    CLEANUP_JSON json_t *value = NULL;
    if (get_property(q, path, property, &value, err) < 0) {
        return -1;
    }
    if (json_is_string(value) && json_string_length(value) >= size) {
        return error_set(err, ERROR_VMM, "QEMU's property %s of %s is longer than %zu bytes", property, path, size - 1);
    }
    return query_string(value, text, size) ? 0 : wrong_type(path, property, err);
}

int query_optional_int(struct qmp *q, const char *path, const char *property, int64_t otherwise, int64_t *n,
                       struct error *err) {
    struct error local = { 0 };
    if (query_property_int(q, path, property, n, &local) == 0) {
        return 0;
    }
    *n = otherwise;
    /* the class of "no such property" changed over the versions: any refusal means that */
    return qmp_refusal(q)[0] != '\0' ? 0 : error_set(err, local.class, "%s", local.desc);
}

int query_if_known(struct qmp *q, const char *command, json_t *args, json_t **value, struct error *err) {
    *value = NULL;
    if (qmp_execute(q, command, args, value, QMP_TIMEOUT, err) < 0) {
        if (strcmp(qmp_refusal(q), "CommandNotFound") != 0) {
            return -1;
        }
        error_clear(err);
    }
    return 0;
}

/* The class of "no such property" changed over the versions: any refusal means that. */
int query_property(struct qmp *q, const char *path, const char *property, json_t **value, struct error *err) {
    *value = NULL;
    if (get_property(q, path, property, value, err) < 0) {
        if (qmp_refusal(q)[0] == '\0') {
            return -1;
        }
        error_clear(err);
    }
    return 0;
}
