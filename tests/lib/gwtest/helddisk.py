# SPDX-License-Identifier: Apache-2.0
"""A disk whose reads are held for as long as a test likes: nbdkit's pause filter, mounted by nbdfuse.

Opened with cache=none, a read of the guest pins its pages when it is sent and writes them, unseen by any page table,
when it is answered: DMA in flight, stretched to seconds."""
import os
import shutil
import socket
import subprocess
import tempfile
import time

from . import process


def missing():
    """Why it cannot be had here, or None."""
    for program in ("nbdkit", "nbdfuse", "fusermount3"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return None if os.path.exists("/dev/fuse") else "there is no /dev/fuse"


class HeldDisk:
    """`path` is a raw image of `size` random bytes. Use as a context manager."""

    def __init__(self, directory, size):
        self._directory = tempfile.mkdtemp(prefix="held-", dir=directory)
        self._control = os.path.join(self._directory, "control")
        backing = os.path.join(self._directory, "backing")
        with open(backing, "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        mount = os.path.join(self._directory, "mount")
        os.mkdir(mount)
        self.path = os.path.join(mount, "nbd")
        self._child = process.spawn(["nbdfuse", mount, "--command", "nbdkit", "-s", "--filter=pause", "file", backing,
                                     f"pause-control={self._control}"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.path):
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError("nbdfuse did not mount")
            time.sleep(0.02)

    def hold(self):
        """What the disk was asked for is answered first; from then on nothing is, until release()."""
        self._say(b"p")

    def release(self):
        self._say(b"r")

    def _say(self, letter):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(self._control)
            control.sendall(letter)
            assert control.recv(1) == letter.upper()

    def close(self):
        try:
            self.release()  # nbdkit does not end while it holds a request, as a test that has failed leaves it
        except OSError:
            pass
        subprocess.run(["fusermount3", "-u", "-z", os.path.dirname(self.path)], check=False, capture_output=True)
        process.kill(self._child)  # and nbdkit, its child, ends with it
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
