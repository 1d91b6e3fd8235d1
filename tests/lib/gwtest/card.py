# SPDX-License-Identifier: Apache-2.0
"""The emulated accelerator of tests/accel: one process is one card."""
import json
import os
import subprocess

from . import places, process


class Card:
    """One card, as `card.device` for accel-devices. Use as a context manager, or call close().

    options  as typed behind "emulated-accel": rate=, latency=, depth=, fault=…; a list repeats the option
    """

    def __init__(self, directory, name="card", **options):
        self.socket = os.path.join(str(directory), name + ".sock")
        self.device = f"emulated:{self.socket}"
        self._stats = os.path.join(str(directory), name + ".stats")
        args = [places.emulated_accel(), "--socket", self.socket, "--stats", self._stats]
        for option, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                args += [f"--{option}", str(one)]
        self._child = process.spawn(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if b"ready" not in self._child.stdout.readline():
            raise RuntimeError(f"{name} ended with {self._child.wait()}")

    def close(self):
        """Ends it and returns its statistics; None when it was closed before."""
        if self._child is None:
            return None
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()
        self._child = None
        with open(self._stats, encoding="utf-8") as file:
            return json.load(file)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
