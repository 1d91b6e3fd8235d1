# SPDX-License-Identifier: Apache-2.0
"""A control group for the vCPU threads of a guest, as libvirt makes one for each vCPU."""
import contextlib
import os
import time

QUOTA = {1: "cpu.cfs_quota_us", 2: "cpu.max"}


class NoGroup(Exception):
    """There is no cpu controller here that groups can be made in."""


def _write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="ascii") as file:
        file.write(str(text))


def _hierarchies():
    """(version, mount point) of those that may have a cpu controller."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            words, _, rest = line.partition(" - ")
            kind, options = rest.split()[0], rest.split()[-1]
            if kind == "cgroup2" or kind == "cgroup" and "cpu" in options.split(","):
                yield 2 if kind == "cgroup2" else 1, words.split()[4]


def _remove(directory, patience=2):
    """A group can be removed a moment after its last thread has left or ended."""
    deadline = time.monotonic() + patience
    while True:
        try:
            os.rmdir(directory)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class CpuGroup:
    """Holds all vCPU threads of a running guest and nothing else. Use as a context manager; the guest may have ended by
    the end of it."""

    def __init__(self, guest):
        self._made = []
        self._tids = [cpu["thread-id"] for cpu in guest.qmp.execute("query-cpus-fast")]
        for self.version, self._point in _hierarchies():
            try:
                self._make(guest.pid)
                return
            except FileExistsError:
                raise  # somebody left it behind
            except OSError:
                self.close()
        raise NoGroup("no cpu controller in which groups can be made")

    def _make_group(self, *names):
        self.path = os.path.join(self._point, *names)
        os.mkdir(self.path)
        self._made.append(self.path)

    def _make(self, pid):
        name = f"godwit-test-{os.getpid()}"
        if self.version == 1:
            self._make_group(name)
        else:
            _write(self._point, "cgroup.subtree_control", "+cpu")
            self._make_group(name)
            _write(self.path, "cgroup.procs", pid)
            self._make_group(name, "vcpus")
            _write(self.path, "cgroup.type", "threaded")
            _write(os.path.dirname(self.path), "cgroup.subtree_control", "+cpu")
        for tid in self._tids:
            _write(self.path, "tasks" if self.version == 1 else "cgroup.threads", tid)

    def quota(self):
        with open(os.path.join(self.path, QUOTA[self.version]), encoding="ascii") as file:
            return file.read().strip()

    def set_quota(self, microseconds):
        """Of each period. Returns what quota() says from then on."""
        _write(self.path, QUOTA[self.version], microseconds)
        return self.quota()

    def close(self):
        v1 = self.version == 1
        for directory in reversed(self._made):
            with open(os.path.join(directory, "tasks" if v1 else "cgroup.threads"), encoding="ascii") as file:
                tids = file.read().split()
            for tid in tids:
                with contextlib.suppress(OSError):  # it has ended, or its process went as a whole
                    _write(self._point, "tasks" if v1 else "cgroup.procs", tid)
            _remove(directory)
        self._made = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
