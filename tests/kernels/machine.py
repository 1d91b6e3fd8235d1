# SPDX-License-Identifier: Apache-2.0
"""A machine that boots a kernel for one job, and what it brings back.

The third disk carries the job there, as JSON, and the results back, as a tar archive that is written over it. The fourth
is empty: files on a disk are tracked in another way than those on tmpfs."""
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

from debian import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))

from gwtest import places, process  # noqa: E402

RESULTS = 64 << 20  # bytes, a sparse file
SCRATCH = "1024M"  # likewise
SAID = "test-kernels: "  # how lines begin that are for people


class Outcome:
    """results  what inside.py wrote, or None when it did not come so far
    console  lines of the console
    logs     where its other files are
    seconds  from its start to its end"""

    def __init__(self, results, console, logs, seconds):
        self.results, self.console, self.logs, self.seconds = results, console, logs, seconds

    def complaints(self):
        """What the kernel said about itself that it should never have to."""
        words = ("WARNING:", "BUG:", "Kernel panic", "Oops", "general protection fault", "hung_task")
        return [line for line in self.console if any(word in line for word in words)]


def _arguments(kernel, disks, memory, append):
    drives = []
    for number, (path, mode) in enumerate(zip(disks, ("on", "on", "off", "off"))):
        drives += ["-drive", f"if=none,id=d{number},file={path},format=raw,readonly={mode},cache=unsafe",
                   "-device", f"virtio-blk-pci,drive=d{number}"]
    # An oops must not pass for a test that failed; a panic ends the machine, which is not started again.
    line = "console=ttyS0 panic=-1 oops=panic no_timer_check tsc=reliable " + append
    return [places.qemu(), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "pc",
            "-accel", places.accelerator(), "-smp", "2", "-m", f"{memory}M", "-device", "virtio-rng-pci", *drives,
            "-kernel", kernel.image, "-initrd", kernel.initrd, "-append", line, "-serial", "stdio"]


def _follow(stream, log, say):
    lines = []
    for raw in stream:
        log.write(raw)
        log.flush()
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        if say(line):
            print(line, flush=True)
    return lines


def _unpack(path, logs):
    """The results, or None."""
    try:
        with tarfile.open(path, "r:") as archive:
            archive.extractall(logs)
        with open(os.path.join(logs, "results.json"), encoding="utf-8") as file:
            return json.load(file)
    except (tarfile.TarError, OSError, ValueError):
        return None


def run(kernel, root, tree, job, logs, limit, memory=3072, append="", verbose=False):
    """Boots, does `job` (inside.py says what can be in it) and ends, or is ended after `limit` seconds. `logs` is a
    directory that is filled."""
    os.makedirs(logs, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gwtest-machine-") as directory, \
            open(os.path.join(logs, "console"), "wb") as log:
        disk = os.path.join(directory, "results")
        with open(disk, "wb") as file:
            file.write(json.dumps(job).encode())
            file.truncate(RESULTS)
        scratch = os.path.join(directory, "scratch")
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", scratch, SCRATCH], check=True,
                       stdout=subprocess.DEVNULL)
        machine = process.spawn(_arguments(kernel, (root, tree, disk, scratch), memory, append), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(
            _follow(machine.stdout, log, lambda line: verbose or line.startswith(SAID))))
        reader.start()
        try:
            machine.wait(limit)
        except subprocess.TimeoutExpired:
            print(f"{SAID}not ready after {limit} s", flush=True)
        finally:
            process.kill(machine)
            reader.join()
        return Outcome(_unpack(disk, logs), lines, logs, time.monotonic() - began)
