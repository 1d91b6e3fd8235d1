# SPDX-License-Identifier: Apache-2.0
"""A real guest on RAM that is no named file: it goes on where it was, its disk is right, and neither host pays for it."""
import os
import re
import subprocess

import pytest

from gwtest import blocks, engine as gw, silence
from gwtest.qemu import MIB, Disk
from scene import PATIENCE, TRACKERS

pytestmark = pytest.mark.usefixtures("engine")

PAGE = 4096


def private(size):
    return ["-machine", "pc", "-m", f"{size // MIB}M"]


def memfd(size):
    return ["-object", f"memory-backend-memfd,id=ram0,size={size},share=on", "-machine", "pc,memory-backend=ram0",
            "-m", f"{size // MIB}M"]


def nodes(size):
    half = f"size={size // 2}"
    return ["-object", f"memory-backend-ram,id=ram0,{half}", "-object", f"memory-backend-ram,id=ram1,{half}",
            "-numa", "node,memdev=ram0", "-numa", "node,memdev=ram1", "-machine", "pc", "-m", f"{size // MIB}M"]


KINDS = {"private": private, "memfd": memfd, "nodes": nodes}


def check_goes_on(guest, there, ticks=50):
    there.serial.wait_ticks(ticks)
    found = silence.measure(guest.serial, there.serial)
    assert found.across and found.jumps == [] and found.errors == [] and found.errors_counted == 0


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_equal_and_goes_on(make_guest, kind, tracker):
    guest = make_guest(memory_args=KINDS[kind](256 * MIB), load={"mem": 100, "rate": 8000})
    guest.wait_ready()
    there = make_guest.destination(guest)
    with gw.Migration(guest, there, settings={"autostart": "off", "tracker": tracker}) as migration:
        migration.complete(PATIENCE)
    assert there.qmp.status() == "paused" and guest.qmp.status() != "running"
    assert blocks.compare(guest, there) == {}
    there.qmp.execute("cont")
    check_goes_on(guest, there)


def make_disk(directory, kind, size=64 * MIB):
    path = os.path.join(directory, f"disk.{kind}")
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, str(size)], check=True)
    return path


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_its_disk_is_right(make_guest, disks, kind):
    """cache=none, image locks on: the load writes blocks, reads them back and checks them, before, while and after."""
    disk = Disk(make_disk(disks, kind), locking="on", kind=kind)
    guest = make_guest(memory_args=private(256 * MIB), load={"mem": 80, "rate": 4000, "diskread": 1}, disk=disk)
    guest.wait_ready()
    there = make_guest.destination(guest, disk=disk)
    with gw.Migration(guest, there) as migration:
        migration.complete(PATIENCE)
    before = there.serial.wait_ticks(1)
    assert there.serial.wait_ticks(150).disk_ops > before.disk_ops, "the disk's load goes on"
    check_goes_on(guest, there)


def smaps(guest, block, *names):
    """KiB of each name, over the mappings of a block."""
    found, inside = dict.fromkeys(names, 0), False
    with open(f"/proc/{guest.pid}/smaps", encoding="utf-8") as file:
        for line in file:
            if m := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                start, end = (int(x, 16) for x in m.groups())
                inside = start < block.host + block.used and end > block.host
            elif inside and line.split(":")[0] in found:
                found[line.split(":")[0]] += int(line.split()[1])
    return found


def segments_with_content(guest, block):
    """2 MiB segments in which anything is not zero: what a destination must have. Nothing is touched by this look."""
    count, size = 0, 2 * MIB
    with open(f"/proc/{guest.pid}/mem", "rb", buffering=0) as memory:
        for at in range(0, block.used, size):
            if any(blocks.populated(guest.pid, block.host + at, size)):
                memory.seek(block.host + at)
                count += any(memory.read(size))
    return count


def page_tables(guest):
    with open(f"/proc/{guest.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmPTE:"))


def test_holes_stay_holes_and_huge_pages_huge(make_guest):
    """4 GiB of which some 300 MiB are used: what either QEMU has of it, in pages, huge pages and page tables."""
    guest = make_guest(memory_args=private(4096 * MIB), load={"mem": 200, "rate": 1000})
    guest.wait_ready()
    there = make_guest.destination(guest)
    block = blocks.blocks(guest)["pc.ram"]
    tables = page_tables(guest), page_tables(there)
    with gw.Migration(guest, there, settings={"autostart": "off"}) as migration:
        before = smaps(guest, block, "Rss", "AnonHugePages")
        migration.complete(PATIENCE)
    after, arrived = (smaps(g, blocks.blocks(g)["pc.ram"], "Rss", "AnonHugePages") for g in (guest, there))
    print(f"before {before}, after {after}, at the destination {arrived}; page tables {tables} KiB before, "
          f"{page_tables(guest)} and {page_tables(there)} after")
    assert blocks.compare(guest, there) == {}
    assert before["Rss"] < 1000 * 1024
    assert after["Rss"] <= before["Rss"] * 1.01 and arrived["Rss"] <= before["Rss"] * 1.01
    # A huge page that is all zeros stays behind: it comes, huge again, when the guest touches it.
    kib = segments_with_content(guest, block) * 2048
    assert arrived["AnonHugePages"] >= min(kib, before["AnonHugePages"]) * 0.95
    # one table of 4 KiB for each 2 MiB that is there, and a few
    assert page_tables(guest) - tables[0] <= before["Rss"] // 512 + 256
    assert page_tables(there) - tables[1] <= before["Rss"] // 512 + 256


def test_to_and_fro(make_guest):
    guest = make_guest(memory_args=private(192 * MIB), load={"mem": 60, "rate": 8000})
    guest.wait_ready()
    for i in range(20):
        there = make_guest.destination(guest, name=f"move{i}")
        with gw.Migration(guest, there) as migration:
            migration.complete(PATIENCE)
        check_goes_on(guest, there, 5)
        guest.remove()
        guest = there
