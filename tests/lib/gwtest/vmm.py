# SPDX-License-Identifier: Apache-2.0
"""What a real guest and a stunt guest have in common: a process with RAM files."""
import os


class Vmm:
    """Needs `backends`, `log_path`, `_child` and stop()."""

    def __enter__(self):
        return self

    @property
    def pid(self):
        return self._child.pid

    @property
    def qmp(self):
        """Our QMP connection."""
        return self._qmp

    @property
    def ram_paths(self):
        return [b.path for b in self.backends if b.path]

    def alive(self):
        return self._child.poll() is None

    def log(self):
        """What it said on stdout and stderr."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def remove(self):
        """stop(), and the RAM files are deleted."""
        self.stop()
        for path in self.ram_paths:
            if os.path.exists(path):
                os.unlink(path)
