# SPDX-License-Identifier: Apache-2.0
"""QEMU's own migration, at its fair best, to compare with."""
import re
import subprocess
import time

from . import places


def version():
    """(major, minor) of the QEMU under test."""
    text = subprocess.run([places.qemu(), "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return tuple(int(n) for n in re.search(r"version (\d+)\.(\d+)", text).groups())


def loses_writes():
    """Whether this QEMU's own migration loses writes of the guest: before 9.0 it does so under TCG (not under KVM) from
    the second round on, for a RAM whose size is a multiple of 256 KiB. The fast path of its dirty bitmap's sync forgets
    to tell the software TLB; "physmem: Fix migration dirty bitmap coherency with TCG memory access" is the cure."""
    return places.accelerator().startswith("tcg") and version() < (9, 0)


def memory(size):
    """The size in bytes that a guest should have when QEMU itself will migrate it: `size`, or 8 KiB more where that
    keeps QEMU off the path that loses writes."""
    return size + 8192 if loses_writes() else size


class DidNotEnd(TimeoutError):
    """The migration was cancelled after its time was up. `answer` is what query-migrate said by then, `seconds` how
    long it was let go on."""

    def __init__(self, answer, seconds):
        super().__init__(f"stock QEMU's migration did not end within {seconds:.0f} s")
        self.answer = answer
        self.seconds = seconds


def _prepare(source, destination, channels, compression, threads, bandwidth, auto_converge):
    """Sets capabilities and parameters at both ends."""
    capabilities = [{"capability": "multifd", "state": channels > 0},
                    {"capability": "auto-converge", "state": auto_converge}]
    settings = {}
    if channels:
        settings["multifd-channels"] = channels
        if compression:
            settings["multifd-compression"] = compression
    if threads:
        capabilities.append({"capability": "compress", "state": True})
    for end in (source, destination):
        end.qmp.execute("migrate-set-capabilities", {"capabilities": capabilities})
        if settings:
            end.qmp.execute("migrate-set-parameters", settings)
    if threads:  # the level and the threads at the destination are QEMU's defaults: 1 and 2
        source.qmp.execute("migrate-set-parameters", {"compress-threads": threads})
    source.qmp.execute("migrate-set-parameters", {"max-bandwidth": bandwidth})


def _end(source, timeout):
    """What query-migrate says when the migration has come to an end; cancels it after `timeout` seconds."""
    def ended(qmp):
        answer = qmp.execute("query-migrate")
        return answer if answer.get("status") in ("completed", "failed", "cancelled") else None

    began = time.monotonic()
    try:
        return source.qmp.wait_until(ended, timeout, interval=0.02)
    except TimeoutError:
        last = source.qmp.execute("query-migrate")
        if last.get("status") == "completed":
            return last
        seconds = time.monotonic() - began
        source.qmp.execute("migrate_cancel")
        source.qmp.wait_until(ended, 60)
        raise DidNotEnd(last, seconds) from None


def migrate(source, destination, address, port=4444, channels=2, bandwidth=100 << 30, timeout=120, compression=None,
            threads=0, auto_converge=False):
    """Migrates over tcp and lets the guest run at the destination. Returns what query-migrate says at the end, with
    "wall-time" (seconds from the command to the guest's run) added. Raises DidNotEnd after `timeout` seconds.

    channels     multifd channels; 0 leaves multifd off
    bandwidth    bytes/s; QEMU's default of 128 MiB/s would be no fair comparison
    compression  of the multifd channels: "zlib" or "zstd", at QEMU's default level
    threads      compress threads, the older way, which works without multifd only; 0: none
    auto_converge  the guest is held back more and more when rounds do not shrink, by QEMU's default parameters
    """
    uri = f"tcp:{address}:{port}"
    _prepare(source, destination, channels, compression, threads, bandwidth, auto_converge)
    destination.qmp.execute("migrate-incoming", uri=uri)
    # Asked for now: the destination was started with -S, and there QEMU has no other way to run at once.
    began = time.monotonic()
    destination.qmp.execute("cont")
    source.qmp.execute("migrate", uri=uri)
    answer = _end(source, timeout)
    if answer["status"] != "completed":
        raise RuntimeError(f"stock migration: {answer}; {destination.log()}")
    destination.qmp.wait_until(lambda qmp: qmp.status() == "running", timeout, interval=0.02)
    return {**answer, "wall-time": time.monotonic() - began}
