/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct settings defaults = {
    .mem = 128,
    .rate = 4096,
    .sweep = 16384,
    .threads = 1,
    .mix = { 40, 37, 8, 15 },
    .seed = 1,
    .tick = 10,
    .disk_rate = 2048,
};

static const struct {
    const char *name;
    size_t offset;
    uint64_t min, max;
} numbers[] = {
    { "gw.mem", offsetof(struct settings, mem), 1, 1 << 20 },
    { "gw.rate", offsetof(struct settings, rate), 0, UINT32_MAX },
    { "gw.sweep", offsetof(struct settings, sweep), 0, UINT32_MAX },
    { "gw.threads", offsetof(struct settings, threads), 1, 64 },
    { "gw.same", offsetof(struct settings, same), 0, 100 },
    { "gw.delta", offsetof(struct settings, delta), 0, 100 },
    { "gw.hot", offsetof(struct settings, hot), 0, 99 },
    { "gw.seed", offsetof(struct settings, seed), 0, UINT64_MAX },
    { "gw.tick", offsetof(struct settings, tick), 1, 60000 },
    { "gw.disk", offsetof(struct settings, disk), 0, 1 },
    { "gw.diskrate", offsetof(struct settings, disk_rate), 0, UINT32_MAX },
    { "gw.diskread", offsetof(struct settings, disk_read), 0, 64 },
    { "gw.video", offsetof(struct settings, video), 0, UINT32_MAX },
};

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value) {
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || parsed < min || parsed > max) {
        return -1;
    }
    *value = parsed;
    return 0;
}

static int parse_mix(const char *text, uint64_t mix[4]) {
    unsigned part[4];
    char end;
    if (sscanf(text, "%u,%u,%u,%u%c", &part[0], &part[1], &part[2], &part[3], &end) != 4) {
        return -1;
    }
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        mix[i] = part[i];
        sum += part[i];
    }
    return sum == 100 ? 0 : -1;
}

/* Init reads these; they are nothing to the load. */
static int is_inits(const char *name) {
    return strcmp(name, "gw.ip") == 0;
}

static int apply(struct settings *settings, const char *name, const char *value) {
    if (strcmp(name, "gw.mix") == 0) {
        return parse_mix(value, settings->mix);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            uint64_t *field = (uint64_t *)(void *)((char *)settings + numbers[i].offset);
            return parse_number(value, numbers[i].min, numbers[i].max, field);
        }
    }
    return is_inits(name) ? 0 : -1;
}

int settings_read(struct settings *settings, const char *path) {
    *settings = defaults;
    char line[4096] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(line, sizeof(line), file) == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        if (file != NULL) {
            fclose(file);
        }
        return -1;
    }
    fclose(file);
    char *rest;
    for (char *word = strtok_r(line, " \t\n", &rest); word != NULL; word = strtok_r(NULL, " \t\n", &rest)) {
        char *value = strchr(word, '=');
        if (strncmp(word, "gw.", 3) != 0) {
            continue;
        }
        if (value != NULL) {
            *value++ = '\0';
        }
        if (value == NULL || apply(settings, word, value) != 0) {
            fprintf(stderr, "bad setting %s=%s\n", word, value != NULL ? value : "");
            return -1;
        }
    }
    return 0;
}
