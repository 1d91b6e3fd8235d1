# SPDX-License-Identifier: Apache-2.0
"""DMA in flight. The guest reads all the time from a disk that answers after a second, into pages that were pinned when
the read was sent. The rule of every pass, scan and protect, then drain, then copy, is what gets these pages across."""
import time

import pytest

from gwtest import engine as gw, oracle, slowdisk
from gwtest.qemu import MIB, Disk

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
    with gw.Migration(guest, there, settings={"autostart": "off"}, fault=fault) as migration:
        migration.complete()
    return oracle.compare_ram(guest, there)


def test_reads_in_flight_arrive(make_guest, slow_disk, engine):
    assert move(make_guest, slow_disk, None) == {}


def test_without_the_drain_they_do_not(make_guest, slow_disk, engine):
    """If this finds nothing, the test above proves nothing."""
    assert move(make_guest, slow_disk, "no-drain") != {}
