# SPDX-License-Identifier: Apache-2.0
"""QEMU's migration stream as far as RAM goes, read once more and apart from src/vmm/qemu/stream.c: what a test compares.

Flags of a record: 0x02 zero, 0x04 list of blocks, 0x08 page, 0x10 end, 0x20 same block, 0x200 flush."""
import struct

PAGE = 4096


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def take(self, size):
        if self.at + size > len(self.data):
            raise EOFError("the stream ends too early")
        self.at += size
        return self.data[self.at - size:self.at]

    def text(self):
        return self.take(self.number(1)).decode()


class Recording:
    """blocks    {name: bytes of it}, as the list of blocks says
       pages     {name: {offset: content}}, the last of each page
       records   number of pages sent of each block, those sent again too
       sections  kinds of sections and commands until the end of RAM, in their order
       marks     (where in the stream, block, offset, whether it is CONTINUE) of each record of a page
       ident     number of RAM's section
       devices   all that comes behind RAM"""

    def __init__(self, path):
        with open(path, "rb") as file:
            self._in = Reader(file.read())
        self.blocks, self.pages, self.records, self.sections, self.marks = {}, {}, {}, [], []
        self._block = None
        self._addresses = False
        assert self._in.take(8) == struct.pack(">II", 0x5145564d, 3)
        self._configuration()
        while self._section():
            pass
        self.devices = self._in.data[self._in.at:]

    def _configuration(self):
        assert self._in.number(1) == 7
        self._in.take(self._in.number(4))
        while self._in.data[self._in.at] == 5:
            self._in.take(1)
            name = self._in.text()
            self._in.take(4)
            if name == "configuration/capabilities":
                names = [self._in.text() for _ in range(self._in.number(4))]
                self._addresses = "x-ignore-shared" in names
            else:
                self._in.take({"configuration/uuid": 16, "configuration/target-page-bits": 4}[name])

    def _section(self):
        kind = self._in.number(1)
        if kind == 8:
            command = self._in.number(2)
            self.sections.append(("command", command))
            self._in.take(self._in.number(2))
            return True
        assert kind in (1, 2, 3), f"section {kind} before the end of RAM"
        ident = self.ident = self._in.number(4)
        if kind == 1:
            assert self._in.text() == "ram"
            self._in.take(8)
        self.sections.append(("ram", kind))
        while self._record():
            pass
        assert self._in.number(1) == 0x7e and self._in.number(4) == ident
        return kind != 3

    def _record(self):
        begin = self._in.at
        value = self._in.number(8)
        at, flags = value & -PAGE, value & PAGE - 1
        if flags == 0x10:
            return False
        if flags == 0x04:
            self._list(at)
        elif flags & ~0x20 in (0x02, 0x08):
            if not flags & 0x20:
                self._block = self._in.text()
            self.marks.append((begin, self._block, at, bool(flags & 0x20)))
            content = self._in.take(PAGE) if flags & 0x08 else bytes([self._in.number(1)]) * PAGE
            self.pages.setdefault(self._block, {})[at] = content
            self.records[self._block] = self.records.get(self._block, 0) + 1
        else:
            assert flags == 0x200, f"flags {flags:#x}"
        return True

    def _list(self, total):
        while total > 0:
            name = self._in.text()
            self.blocks[name] = self._in.number(8)
            total -= self.blocks[name]
            if self._addresses:
                self._in.take(8)
        assert total == 0
