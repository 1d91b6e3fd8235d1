# SPDX-License-Identifier: Apache-2.0
"""The oracle over all of a guest's memory: every RAM block of two QEMUs, read in their processes, compared byte by byte.

Where a block lies QEMU tells since 8.2 ("info ramblock"); before, its record is searched in the heap. This is written
independently of the engine, and knows nothing of how that does it."""
import collections
import os
import re
import struct

PAGE = 4096
CHUNK = 2 << 20
ENTRY = 8  # bytes of /proc/PID/pagemap a page
POPULATED = 3 << 62  # present or swapped

Block = collections.namedtuple("Block", "name used total host")
Mapping = collections.namedtuple("Mapping", "start end flags offset path")

_LINE = re.compile(r"\s*(\S.*?)\s+[\d.]+ \w+\s+0x(\w+)\s+0x(\w+)\s+0x(\w+)(?:\s+0x(\w+)\s+(?:ro|rw))?\s*$")


def mappings(pid):
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 5)
            start, end = (int(x, 16) for x in words[0].split("-"))
            found.append(Mapping(start, end, words[1], int(words[2], 16), words[5].strip() if len(words) > 5 else ""))
    return found


def _search_heap(pid, wanted):
    """{(name, offset, used, total): [host, ...]}: a record has the host address 16 bytes before these three, and the name
    36 behind them."""
    found = {key: [] for key in wanted}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for m in mappings(pid):
            if m.path != "[heap]":
                continue
            memory.seek(m.start)
            data = memory.read(m.end - m.start)
            for key in wanted:
                pattern, name, at = struct.pack("<QQQ", *key[1:]), key[0].encode() + b"\0", -1
                while (at := data.find(pattern, at + 1)) >= 16:
                    if data.startswith(name, at + 36):
                        found[key].append(struct.unpack_from("<Q", data, at - 16)[0])
    return found


def blocks(guest):
    """All RAM blocks that have a name and memory, {name: Block}. What cannot be found is an error: nothing is skipped."""
    text = guest.qmp.execute("human-monitor-command", {"command-line": "info ramblock"})
    rows = [m.groups() for line in text.splitlines() if (m := _LINE.match(line))]
    rows = [(name, *(int(x, 16) for x in (offset, used, total)), int(host, 16) if host else None)
            for name, offset, used, total, host in rows if int(used, 16)]
    if not rows:
        raise ValueError(f"no RAM blocks: {text}")
    if all(host is None for *_, host in rows):
        hosts = _search_heap(guest.pid, {row[:4] for row in rows})
        rows = [(*row[:4], *hosts[row[:4]]) for row in rows]
    for row in rows:
        if len(row) != 5 or not row[4]:
            raise ValueError(f"where {row[0]} lies is not clear: {row}")
    return {name: Block(name, used, total, host) for name, _, used, total, host in rows}


def populated(pid, start, size):
    """One byte a page: whether the process has memory of its own there."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        entries = struct.unpack(f"<{size // PAGE}Q", os.pread(file.fileno(), size // PAGE * ENTRY, start // PAGE * ENTRY))
    return bytes(entry & POPULATED != 0 for entry in entries)


def _is_file(pid, start):
    return any(m.start <= start < m.end and m.path.startswith("/") for m in mappings(pid))


def _read(fd, at, size):
    data = os.pread(fd, size, at)
    if len(data) != size:
        raise ValueError(f"{size} bytes at {at:#x} cannot be read")
    return data


def compare_block(left_pid, left, right_pid, right):
    """Numbers of the pages that differ. What neither has touched is not read, so that nothing is allocated for it."""
    if left.used != right.used:
        raise ValueError(f"{left} against {right}")
    all_of_it = _is_file(left_pid, left.host) or _is_file(right_pid, right.host)
    pages = []
    a, b = (os.open(f"/proc/{pid}/mem", os.O_RDONLY) for pid in (left_pid, right_pid))
    try:
        for at in range(0, left.used, CHUNK):
            size = min(CHUNK, left.used - at)
            if not all_of_it and not any(populated(left_pid, left.host + at, size)) and \
                    not any(populated(right_pid, right.host + at, size)):
                continue
            x, y = _read(a, left.host + at, size), _read(b, right.host + at, size)
            if x != y:
                pages += [(at + p) // PAGE for p in range(0, size, PAGE) if x[p:p + PAGE] != y[p:p + PAGE]]
    finally:
        os.close(a)
        os.close(b)
    return pages


def compare(source, destination):
    """{name: [page, ...]} of all blocks that differ; {} when all are equal. Both must stand still."""
    left, right = blocks(source), blocks(destination)
    if left.keys() != right.keys():
        raise ValueError(f"blocks {sorted(left)} against {sorted(right)}")
    found = {name: compare_block(source.pid, left[name], destination.pid, right[name]) for name in left}
    return {name: pages for name, pages in found.items() if pages}
