/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/events.h"

#include "base/clock.h"

int events_open(struct events *e, const char *path, struct error *err) {
    e->file = NULL;
    if (path == NULL) {
        return 0;
    }
    e->file = fopen(path, "ae");
    if (e->file == NULL) {
        return error_errno(err, ERROR_USAGE, "cannot write events to %s", path);
    }
    setvbuf(e->file, NULL, _IOLBF, 0);
    return 0;
}

void events_emit(struct events *e, const char *name, json_t *fields) {
    if (e->file != NULL) {
        json_t *line = json_pack("{s:s, s:f}", "event", name, "time", (double)clock_wall() / 1e9);
        if (fields != NULL) {
            json_object_update(line, fields);
        }
        json_dumpf(line, e->file, JSON_COMPACT | JSON_REAL_PRECISION(16));
        fputc('\n', e->file);
        json_decref(line);
    }
    json_decref(fields);
}

void events_close(struct events *e) {
    if (e->file != NULL) {
        fclose(e->file);
        e->file = NULL;
    }
}
