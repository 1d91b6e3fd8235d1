# SPDX-License-Identifier: Apache-2.0
"""The guest keeps working: what it did goes on at the destination from where it was, and its disk is right."""
import os

import pytest

from gwtest import engine as gw, oracle, silence
from gwtest.qemu import MIB, Disk

pytestmark = pytest.mark.usefixtures("engine")


def make_disk(directory, size=64 * MIB):
    path = os.path.join(directory, "disk.raw")
    with open(path, "wb") as file:
        file.truncate(size)
    return path


@pytest.mark.smoke
def test_goes_on_where_it_was(make_guest, hosts):
    guest = make_guest(memory=256 * MIB, load={"mem": 100, "rate": 8000}, netns=hosts.a.netns)
    guest.wait_ready()
    there = make_guest.destination(guest, netns=hosts.b.netns)
    with gw.Migration(guest, there, hosts=hosts) as migration:
        report = migration.complete()
    there.serial.wait_ticks(50)
    found = silence.measure(guest.serial, there.serial)
    assert found.across and found.jumps == [] and found.errors == [] and found.errors_counted == 0
    assert guest.qmp.execute("query-status")["status"] == "postmigrate"
    assert there.qmp.execute("query-status")["running"]
    assert 0 < report["downtime"] < 10000 and report["switchover"].keys() == {"stop", "final", "device", "load", "run"}


def test_shared_disk_with_direct_io(make_guest, disks):
    """cache=none, aio=native, image locks on, as for storage that both hosts share. The load writes blocks, reads them
    back and checks them, before, while and after."""
    disk = Disk(make_disk(disks), locking="on")
    guest = make_guest(memory=256 * MIB, load={"mem": 80, "rate": 4000, "diskread": 1}, disk=disk)
    guest.wait_ready()
    there = make_guest.destination(guest, disk=disk)
    with gw.Migration(guest, there) as migration:
        migration.complete()
    before = there.serial.wait_ticks(1)
    after = there.serial.wait_ticks(150)
    assert after.disk_ops > before.disk_ops, "the disk's load goes on"
    found = silence.measure(guest.serial, there.serial)
    assert found.errors == [] and found.errors_counted == 0 and found.jumps == []


def test_paused_guest_stays_paused(make_guest):
    guest = make_guest(memory=192 * MIB, load={"mem": 40})
    guest.wait_ready()
    guest.qmp.execute("stop")
    there = make_guest.destination(guest)
    with gw.Migration(guest, there) as migration:
        report = migration.complete()
    assert "downtime" not in report
    assert there.qmp.execute("query-status")["status"] == "paused"
    assert oracle.compare_ram(guest, there) == {}
    there.qmp.execute("cont")
    there.serial.wait_ticks(10)


def test_source_quit(make_guest):
    guest = make_guest(memory=192 * MIB, load={"mem": 40})
    guest.wait_ready()
    there = make_guest.destination(guest)
    with gw.Migration(guest, there, settings={"source-quit": "on"}) as migration:
        migration.complete()
    there.serial.wait_ticks(10)
    guest.wait_gone()


def test_narrow_link_and_limit(make_guest, hosts):
    """max-bandwidth holds over all channels; --set at the receiver is the stricter one and wins."""
    guest = make_guest(memory=256 * MIB, load={"mem": 60, "rate": 500}, netns=hosts.a.netns)
    guest.wait_ready()
    there = make_guest.destination(guest, netns=hosts.b.netns)
    with gw.Migration(guest, there, hosts=hosts, settings={"max-bandwidth": "100M", "channels": 3, "autostart": "off"},
                      receive_settings={"max-bandwidth": "20M"}) as migration:
        report = migration.complete()
    seconds = (report["total-time"] - report["setup-time"]) / 1000
    assert report["ram"]["transferred"] / seconds < 20 * MIB * 1.1
    assert oracle.compare_ram(guest, there) == {}
