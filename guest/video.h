/* SPDX-License-Identifier: Apache-2.0 */
/* The video load: writes video RAM all the time, as a busy screen does. */
#ifndef GUEST_VIDEO_H
#define GUEST_VIDEO_H

#include "settings.h"

/* Starts the thread. -1: no video card with memory that can be mapped. */
int video_start(const struct settings *settings);

#endif
