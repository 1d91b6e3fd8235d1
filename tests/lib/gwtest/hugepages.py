# SPDX-License-Identifier: Apache-2.0
"""Huge pages of 2 MiB, taken from the kernel for a while and given back."""
import atexit
import contextlib
import fcntl
import os
import subprocess
import tempfile

SIZE = 2 << 20
POOL = "/proc/sys/vm/nr_hugepages"
LOCK = "/run/lock/gwtest-hugepages"


class NoHugePages(Exception):
    """The kernel could not find that many."""


@contextlib.contextmanager
def _locked():
    with open(LOCK, "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test runs at the same time share the pool
        yield


def _read():
    with open(POOL, encoding="ascii") as file:
        return int(file.read())


def _write(count):
    with open(POOL, "w", encoding="ascii") as file:
        file.write(str(count))


class HugePages:
    """`size` bytes of huge pages and a hugetlbfs mount at `directory`. Use as a context manager, or call release().

    Files in the directory must be closed by then; they are deleted."""

    def __init__(self, size):
        self.count = -(-size // SIZE)
        self.directory = None
        with _locked():
            before = _read()
            _write(before + self.count)
            if _read() < before + self.count:
                _write(before)
                raise NoHugePages(f"the kernel has no {self.count} huge pages in one piece")
        atexit.register(self.release)
        self._held = True
        directory = tempfile.mkdtemp(prefix="gwtest-huge-")
        try:
            subprocess.run(["mount", "-t", "hugetlbfs", "-o", f"pagesize={SIZE}", "none", directory], check=True)
            self.directory = directory
        except BaseException:
            os.rmdir(directory)
            self.release()
            raise

    def release(self):
        """Gives everything back; may be called again."""
        if self.directory:
            for name in os.listdir(self.directory):
                os.unlink(os.path.join(self.directory, name))
            subprocess.run(["umount", self.directory], check=True)
            os.rmdir(self.directory)
            self.directory = None
        if self._held:
            self._held = False
            with _locked():
                _write(max(0, _read() - self.count))
        atexit.unregister(self.release)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()
