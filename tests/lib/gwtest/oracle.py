# SPDX-License-Identifier: Apache-2.0
"""Compares what two guests hold, byte by byte.

Files are read, never mapped: reading a hole of a tmpfs file through a mapping would give it a page."""
import errno
import os

from . import blocks

PAGE = 4096
CHUNK = 1 << 20


def _next_data(fd, at, size):
    """Where data begin at or behind `at`, or `size`."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        return at  # hugetlbfs does not know its holes: everything counts as data


def _differing(left, right, base):
    pages = []
    for at in range(0, len(left), PAGE):
        if left[at:at + PAGE] != right[at:at + PAGE]:
            pages.append((base + at) // PAGE)
    return pages


def differing_pages(left_path, right_path, most=1000):
    """Numbers of the 4 KiB pages that differ, at most `most` of them. A file of another size is an error."""
    with open(left_path, "rb", buffering=0) as left, open(right_path, "rb", buffering=0) as right:
        size = os.fstat(left.fileno()).st_size
        if size != os.fstat(right.fileno()).st_size:
            raise ValueError(f"{left_path} and {right_path} differ in size")
        pages, at = [], 0
        while at < size and len(pages) < most:
            at = min(_next_data(left.fileno(), at, size), _next_data(right.fileno(), at, size))
            at -= at % PAGE
            a = os.pread(left.fileno(), CHUNK, at)
            b = os.pread(right.fileno(), CHUNK, at)
            if a != b:
                pages += _differing(a, b, at)
            at += CHUNK
        return pages[:most]


def allocated(path):
    """Bytes that the file occupies: holes do not count."""
    return os.stat(path).st_blocks * 512


def _where(guest, backend):
    """The blocks.Block of a back end without a file."""
    return blocks.blocks(guest)[backend.id]


def compare_ram(source, destination):
    """Differing pages of two guests, as {back end id: [page, ...]}; empty when they are equal. Both must be paused. Of
    QEMUs whose RAM is no file, all blocks."""
    if not source.backends:
        return blocks.compare(source, destination)
    found = {}
    for s, d in zip(source.backends, destination.backends):
        if s.id != d.id:
            raise ValueError(f"{s.id} against {d.id}")
        if s.path and d.path:
            pages = differing_pages(s.path, d.path)
        else:
            pages = blocks.compare_block(source.pid, _where(source, s), destination.pid, _where(destination, d))
        if pages:
            found[s.id] = pages
    return found


def compare_disks(source, destination):
    """Numbers of the 4 KiB blocks of two raw images (paths or guests) in which they differ."""
    paths = [x.disk.path if hasattr(x, "disk") else x for x in (source, destination)]
    return differing_pages(*paths)
