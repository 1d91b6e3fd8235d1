# SPDX-License-Identifier: Apache-2.0
"""Writes into the memory of a running guest that come from a device: QEMU's fw_cfg copies a file of ours to a guest
address, in QEMU's own thread and through its own mapping, when a port is written. No guest system is needed, and every
tracker sees it as what it is. (A write from outside through /proc/PID/mem would not wait for a tracker's thread.)

    noise = dma.Noise(directory); guest = Bare(extra=noise.args); noise.begin(guest); noise.write(guest, address, pages)
"""
import os
import struct

PAGE = 4096
DIRECTORY = 0x19
READ, SELECT = 2, 8  # of a request's control word
PORT = 0x518  # the lower half of a request's address, big-endian; writing it starts the transfer
FILE = "opt/org.godwit/noise"


def hmp(guest, line):
    return guest.qmp.execute("human-monitor-command", {"command-line": line})


def host_address(guest, address):
    return int(hmp(guest, f"gpa2hva {address:#x}").rsplit(" ", 1)[1], 16)


class Noise:
    """`args` are for QEMU. Requests lie at `desk` in the guest's memory, where no firmware works: written before anything tracks it."""

    def __init__(self, directory, pages=300, desk=80 << 20):
        self.path = os.path.join(str(directory), "noise")
        self.data = os.urandom(pages * PAGE)
        with open(self.path, "wb") as file:
            file.write(self.data)
        self.args = ["-fw_cfg", f"name={FILE},file={self.path}"]
        self._desk, self._key, self._requests = desk, None, []

    @staticmethod
    def _poke(guest, address, data):
        with open(f"/proc/{guest.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(host_address(guest, address))
            assert memory.write(data) == len(data)

    @staticmethod
    def peek(guest, address, size):
        with open(f"/proc/{guest.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(host_address(guest, address))
            return memory.read(size)

    def _start(self, guest, at):
        answer = hmp(guest, f"o/4 {PORT:#x} {struct.unpack('<I', struct.pack('>I', at))[0]:#x}")
        assert answer == "", answer

    def _find(self, guest):
        """The key of our file, from the directory."""
        size, at = 64 * 64, self._desk + PAGE
        self._poke(guest, self._desk, struct.pack(">IIQ", DIRECTORY << 16 | SELECT | READ, size, at))
        self._start(guest, self._desk)
        data = self.peek(guest, at, size)
        for i in range(struct.unpack_from(">I", data)[0]):
            _, key, _, name = struct.unpack_from(">IHH56s", data, 4 + 64 * i)
            if name.rstrip(b"\0").decode() == FILE:
                return key
        raise ValueError("fw_cfg does not have our file")

    def begin(self, guest, *plan):
        """Notes requests for later: (address, size) each, written with noise; a size behind its end gives zeros."""
        self._key = self._find(guest)
        for i, (address, size) in enumerate(plan):
            at = self._desk + 16 * i
            self._poke(guest, at, struct.pack(">IIQ", self._key << 16 | SELECT | READ, size, address))
            self._requests.append(at)

    def write(self, guest, number):
        """Request `number` of the plan, now."""
        self._start(guest, self._requests[number])
