# SPDX-License-Identifier: Apache-2.0
"""DMA in flight. The guest reads all the time from a disk that answers after a second, into pages that were pinned when
the read was sent. What gets these pages across is the order: scan and protect, then drain, then copy, and a second look
behind the next drain at what was copied without one."""
import os
import signal
import time

import pytest

from gwtest import engine as gw, oracle, slowdisk
from gwtest.qemu import MIB, Disk

# QEMU stops a guest when its reads have ended, and each of these takes a second.
SLOW = {"autostart": "off", "stop-limit": 0}
LOAD = {"mem": 40, "rate": 400, "disk": 0, "diskread": 4}


@pytest.fixture
def slow_disk(disks, root):
    reason = slowdisk.missing()
    if reason:
        pytest.skip(reason)
    with slowdisk.SlowDisk(disks, 64 * MIB, 1) as disk:
        yield disk


def move(make_guest, slow_disk, fault):
    disk = Disk(slow_disk.path, aio="threads")
    guest = make_guest(memory=192 * MIB, load=LOAD, disk=disk)
    guest.wait_ready()
    time.sleep(1.5)  # reads are in flight, and in step
    there = make_guest.destination(guest, disk=disk)
    with gw.Migration(guest, there, settings=SLOW, fault=fault) as migration:
        migration.complete()
    return oracle.compare_ram(guest, there)


def test_reads_in_flight_arrive(make_guest, slow_disk, engine):
    assert move(make_guest, slow_disk, None) == {}


def test_without_drains_they_do_not(make_guest, slow_disk, engine):
    """If this finds nothing, the test above proves nothing."""
    assert move(make_guest, slow_disk, "no-drain") != {}


LIMIT, READERS = 5, 1


def reads(guest):
    """Operations of the disk so far, and the time."""
    found = guest.qmp.execute("query-blockstats")  # each node is listed, and only a device counts what its limits let by
    return sum(d["stats"]["rd_operations"] for d in found if d.get("qdev")), time.monotonic()


def rate_between(before, after):
    return (after[0] - before[0]) / (after[1] - before[1])


def test_limits_of_a_disk_hold(make_guest, disks, engine):
    """A drain lets all requests through that a limit holds back: few drains. Before, passes of 20 ms drained each, and
    185 reads/s came of 5."""
    path = os.path.join(disks, "disk.raw")
    with open(path, "wb") as file:
        file.truncate(64 * MIB)
    disk = Disk(path)
    guest = make_guest(memory=192 * MIB, load={"mem": 60, "rate": 20000, "disk": 0, "diskread": READERS}, disk=disk)
    guest.wait_ready()
    limits = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": LIMIT, "iops_rd": 0, "iops_wr": 0}
    guest.qmp.execute("block_set_io_throttle", {"id": "/machine/peripheral/vd0/virtio-backend", **limits})
    time.sleep(2)  # what was let through at once before
    start = reads(guest)
    time.sleep(8)
    alone = rate_between(start, reads(guest))
    there = make_guest.destination(guest, disk=disk)
    settings = {"max-bandwidth": "16M", "throttle-policy": "none", "downtime-limit": 0}  # never ends
    with gw.Migration(guest, there, settings=settings) as migration:
        migration.send.wait_event(event="stage", stage="iterate")
        start = reads(guest)
        time.sleep(12)
        meanwhile = rate_between(start, reads(guest))
        assert guest.qmp.execute("query-status")["running"] and migration.send.alive()
        migration.send.signal(signal.SIGINT)
        migration.wait()
    print(f"reads/s with a limit of {LIMIT}: {alone:.2f} before, {meanwhile:.2f} while it is migrated")
    assert abs(meanwhile - alone) <= 0.1 * alone
