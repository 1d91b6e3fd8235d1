/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing all that is asked for, however small the pieces are in which the kernel does it. */
#ifndef GODWIT_BASE_IO_H
#define GODWIT_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* As pread(2) and pwrite(2), of `size` bytes at `at`. Less than `size` is returned only where no more can be moved: at
 * the end of the file or of the memory. -1 with errno, however much was moved before. */
ssize_t io_read_at(int fd, void *to, size_t size, uint64_t at);
ssize_t io_write_at(int fd, const void *from, size_t size, uint64_t at);

#endif
