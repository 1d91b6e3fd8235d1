/* SPDX-License-Identifier: Apache-2.0 */
/* The disk load: writes blocks of /dev/vda past the page cache, reads them back and checks them. */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

#include "settings.h"

/* Starts the threads. -1: the disk is not there, or no memory. */
int disk_start(const struct settings *settings, const char *path);

#endif
