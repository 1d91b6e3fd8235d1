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


def migrate(source, destination, address, port=4444, channels=2, bandwidth=100 << 30, timeout=120, **parameters):
    """Migrates over tcp and lets the guest run at the destination. Returns what query-migrate says at the end, with
    "wall-time" (seconds from the command to the guest's run) added.

    channels    multifd channels; 0 leaves multifd off
    bandwidth   bytes/s; QEMU's default of 128 MiB/s would be no fair comparison
    """
    uri = f"tcp:{address}:{port}"
    capabilities = [{"capability": "multifd", "state": channels > 0}]
    settings = {"multifd-channels": channels} if channels else {}
    for end in (source, destination):
        end.qmp.execute("migrate-set-capabilities", {"capabilities": capabilities})
        if settings:
            end.qmp.execute("migrate-set-parameters", settings)
    source.qmp.execute("migrate-set-parameters",
                       {"max-bandwidth": bandwidth, **{k.replace("_", "-"): v for k, v in parameters.items()}})
    destination.qmp.execute("migrate-incoming", uri=uri)
    # Asked for now: the destination was started with -S, and there QEMU has no other way to run at once.
    began = time.monotonic()
    destination.qmp.execute("cont")
    source.qmp.execute("migrate", uri=uri)

    def ended(qmp):
        answer = qmp.execute("query-migrate")
        return answer if answer.get("status") in ("completed", "failed", "cancelled") else None

    answer = source.qmp.wait_until(ended, timeout, interval=0.02)
    if answer["status"] != "completed":
        raise RuntimeError(f"stock migration: {answer}; {destination.log()}")
    destination.qmp.wait_until(lambda qmp: qmp.status() == "running", timeout, interval=0.02)
    return {**answer, "wall-time": time.monotonic() - began}
