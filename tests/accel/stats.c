/* SPDX-License-Identifier: Apache-2.0 */
#include "card.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stats_keep(struct card *card, const struct client *c) {
    char text[256];
    int n = snprintf(text, sizeof(text),
                     "{\"pid\": %d, \"jobs\": %" PRIu64 ", \"inflated\": %" PRIu64 ", \"in\": %" PRIu64
                     ", \"out\": %" PRIu64 "},",
                     c->pid, c->jobs, c->inflated, c->bytes_in, c->bytes_out);
    char *grown = realloc(card->gone, card->gone_size + (size_t)n + 1);
    if (grown != NULL) {
        memcpy(grown + card->gone_size, text, (size_t)n + 1);
        card->gone = grown;
        card->gone_size += (size_t)n;
    }
}

int stats_write(struct card *card, const char *path) {
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return -1;
    }
    int clients = (int)card->gone_size - (card->gone_size > 0); /* without the last comma */
    fprintf(file,
            "{\"jobs\": %" PRIu64 ", \"busy-ns\": %" PRId64 ", \"violations\": %u, \"faults\": %" PRIu64
            ", \"clients\": [%.*s]}\n",
            card->next_job, card->busy_ns, card->violations, card->faults_done, clients,
            card->gone != NULL ? card->gone : "");
    return fclose(file);
}
