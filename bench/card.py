# SPDX-License-Identifier: Apache-2.0
"""An emulated accelerator (docs/accelerators.md)."""
import os
import subprocess
import tempfile

from gwtest import places, process

PROGRAM = os.environ.get("EMULATED_ACCEL") or os.path.join(places.build(), "tests", "accel", "emulated-accel")


class Card:
    """One device. Use as a context manager."""

    def __init__(self, rate, **options):
        """rate: bytes of input a second; 0: as fast as this machine compresses"""
        self.directory = tempfile.TemporaryDirectory(prefix="godwit-card-")
        self.socket = os.path.join(self.directory.name, "socket")
        args = [PROGRAM, "--socket", self.socket, "--rate", rate]
        for name, value in options.items():
            args += ["--" + name, value]
        self.child = process.spawn(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.child.stdout.readline().strip() != b"ready":
            self.close()
            raise RuntimeError(f"{PROGRAM} did not start")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        process.kill(self.child)
        self.child.stdin.close()
        self.child.stdout.close()
        self.directory.cleanup()


def settings(*cards):
    """--set for a migration that compresses on these cards."""
    return {"compression": "qat", "accel-devices": ",".join(f"emulated:{card.socket}" for card in cards)}


def shares(report):
    """Bytes of input that each device of a report did."""
    return [device["in"] for device in report["accel"]["devices"]]
