/* SPDX-License-Identifier: Apache-2.0 */
/* An address of the command line (wire/address.h). */
#include "fuzz.h"
#include "wire/address.h"

#include <jansson.h>
#include <sys/un.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct address a;
    struct error err = { 0 };
    char *text = text_of(data, size);
    int rc = address_parse(text, &a, &err);
    MUST((rc == 0) == !error_is_set(&err));
    if (rc == 0) {
        MUST(memchr(a.host, '\0', sizeof(a.host)) != NULL && memchr(a.port, '\0', sizeof(a.port)) != NULL);
        MUST(a.host[0] != '\0' && (a.kind == ADDRESS_UNIX) == (a.port[0] == '\0'));
        MUST(a.kind != ADDRESS_UNIX || strlen(a.host) < sizeof(((struct sockaddr_un *)0)->sun_path));
    } else {
        json_t *desc = json_string(err.desc); /* what people typed stands in a report */
        MUST(desc != NULL && strchr(err.desc, '\n') == NULL);
        json_decref(desc);
    }
    free(text);
    return 0;
}
