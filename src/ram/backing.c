/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind it is. */
#include "ram/backing_internal.h"

#include <stddef.h>

struct backing *backing_open_file(const struct backing_file *file, struct error *err) {
    return file->page_size == RAM_PAGE_SIZE ? backing_open_small(file, err) : backing_open_huge(file, err);
}

void backing_close(struct backing *b) {
    if (b != NULL) {
        b->ops->close(b);
    }
}
