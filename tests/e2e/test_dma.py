# SPDX-License-Identifier: Apache-2.0
"""DMA in flight. The guest reads all the time from a disk that does not answer for a while, into pages that were pinned
when the read was sent. What gets these pages across is the order: scan and protect, then drain, then copy, and a second
look behind the next drain at what was copied without one."""
import os
import signal
import time

import pytest

from gwtest import engine as gw, helddisk, oracle
from gwtest.qemu import MIB, Disk

# QEMU drains to stop a guest, and the test decides when its reads end.
HELD = {"autostart": "off", "stop-limit": 0}
LOAD = {"mem": 40, "rate": 400, "disk": 0, "diskread": 4}
IN_FLIGHT = 1  # seconds until all readers wait
LONG = 4  # seconds that the reads stay in flight: the first pass, which waits for no drain, takes less


@pytest.fixture
def held_disk(disks, root):
    reason = helddisk.missing()
    if reason:
        pytest.skip(reason)
    with helddisk.HeldDisk(disks, 64 * MIB) as disk:
        yield disk


def both(make_guest, held_disk, load):
    disk = Disk(held_disk.path, aio="threads")
    guest = make_guest(memory=192 * MIB, load=load, disk=disk)
    guest.wait_ready()
    return guest, make_guest.destination(guest, disk=disk)


def move(make_guest, held_disk, fault):
    """Differences between the two ends' memory, and whether the first pass was over while the reads were in flight."""
    guest, there = both(make_guest, held_disk, LOAD)
    held_disk.hold()
    time.sleep(IN_FLIGHT)
    with gw.Migration(guest, there, settings=HELD, fault=fault) as migration:
        time.sleep(LONG)
        copied = any(event["event"] == "pass" for event in migration.send.events())
        held_disk.release()
        migration.complete()
    return oracle.compare_ram(guest, there), copied


def test_reads_in_flight_arrive(make_guest, held_disk, engine):
    assert move(make_guest, held_disk, None) == ({}, False)


def test_without_drains_they_do_not(make_guest, held_disk, engine):
    """If this finds nothing, the test above proves nothing."""
    differences, copied = move(make_guest, held_disk, "no-drain")
    assert differences != {} and copied


def test_reads_that_were_copied_in_flight_arrive(make_guest, held_disk, engine):
    """Pass 2 and those behind it wait for no drain. What they copied is looked at again when the guest stands still."""
    guest, there = both(make_guest, held_disk, {**LOAD, "mem": 4})
    settings = {**HELD, "throttle-policy": "none", "downtime-limit": 1}
    with gw.Migration(guest, there, settings=settings, fault=f"hold@iterate={2000 * IN_FLIGHT}") as migration:
        migration.send.wait_event(event="stage", stage="iterate")
        held_disk.hold()
        with migration.send.control() as control:  # it does not end before pass 3, and then at once
            control.execute("migrate-set-parameters", **{"max-bandwidth": MIB})
            migration.send.wait_event(lambda event: event["event"] == "pass" and event["pass"] >= 3)
            control.execute("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 2000})
        time.sleep(2 * IN_FLIGHT)  # QEMU stops the guest, and waits for its reads
        held_disk.release()
        migration.complete()
    assert oracle.compare_ram(guest, there) == {}


LIMIT, READERS = 5, 1


def reads(guest):
    """Operations of the disk so far, and the time."""
    found = guest.qmp.execute("query-blockstats")  # each node is listed, and only a device counts what its limits let by
    return sum(d["stats"]["rd_operations"] for d in found if d.get("qdev")), time.monotonic()


def rate_between(before, after):
    return (after[0] - before[0]) / (after[1] - before[1])


@pytest.mark.alone
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
