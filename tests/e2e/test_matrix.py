# SPDX-License-Identifier: Apache-2.0
"""Real guests under load, moved and compared byte by byte.

{pc, q35} x {4 KiB, 2 MiB pages} x {one back end, two}: each is one guest, which is moved four times in a row, once for each
of {1, 4 channels} x {both trackers}. After each hop both sides are paused and compared; then the guest goes on at the
destination, which is the source of the next hop. So what one hop broke, the next ones show."""
import os

import pytest

from gwtest import clean, engine as gw, oracle, silence
from gwtest.qemu import MIB, Backend

MEMORY = 384 * MIB
LOAD = {"mem": 160, "rate": 20000}
HOPS = [(channels, tracker) for channels in (1, 4) for tracker in ("async", "sync")]


def backends(directory, name, count):
    """Sizes that are no powers of two, so that nothing fits by luck."""
    sizes = [MEMORY] if count == 1 else [MEMORY - 130 * MIB, 130 * MIB]
    return [Backend(f"ram{i}", size, os.path.join(directory, f"{name}.{i}")) for i, size in enumerate(sizes)]


def hop(make_guest, guest, name, directory, count, channels, tracker):
    there = make_guest.destination(guest, name=name, backends=backends(directory, name, count))
    before = clean.Snapshot(guest)
    settings = {"autostart": "off", "channels": channels, "tracker": tracker}
    with gw.Migration(guest, there, settings=settings) as migration:
        report = migration.complete()
    assert report["tracker"] == tracker
    assert oracle.compare_ram(guest, there) == {}
    before.check()
    assert guest.qmp.execute("query-status")["status"] == "postmigrate"
    assert there.qmp.execute("query-status")["status"] == "paused"
    there.qmp.execute("cont")
    there.serial.wait_ticks(20)
    found = silence.measure(guest.serial, there.serial)
    assert found.errors == [] and found.jumps == [] and found.errors_counted == 0
    guest.remove()
    return there


@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize("pages", ["4k", "2m"])
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_equal(make_guest, hugepages, shm, engine, machine, pages, count):
    directory = hugepages(2 * MEMORY).directory if pages == "2m" else shm
    guest = make_guest(name="hop0", machine=machine, backends=backends(directory, "hop0", count), load=LOAD)
    guest.wait_ready()
    for i, (channels, tracker) in enumerate(HOPS, 1):
        guest = hop(make_guest, guest, f"hop{i}", directory, count, channels, tracker)


def test_memory_device(make_guest, shm, engine):
    """A DIMM beside the machine's own memory, plugged while the guest runs."""
    plug = ["-m", "256M,slots=2,maxmem=1G"]
    guest = make_guest(memory=256 * MIB, load={"mem": 64, "rate": 4000}, extra=plug)
    guest.wait_ready()
    dimm = {"qom-type": "memory-backend-file", "id": "dimm0mem", "size": 128 * MIB, "share": True}
    guest.qmp.execute("object-add", **dimm, **{"mem-path": os.path.join(shm, "dimm.src")})
    guest.qmp.execute("device_add", driver="pc-dimm", id="dimm0", memdev="dimm0mem")
    there_path = os.path.join(shm, "dimm.dst")
    there = make_guest.destination(guest, extra=plug + [
        "-object", f"memory-backend-file,id=dimm0mem,size=128M,share=on,mem-path={there_path}",
        "-device", "pc-dimm,id=dimm0,memdev=dimm0mem"])
    with gw.Migration(guest, there, settings={"autostart": "off"}) as migration:
        report = migration.complete()
    assert 384 * MIB <= report["ram"]["total"] < 408 * MIB  # with what QEMU owns itself, of which 16 MiB are video RAM
    assert oracle.compare_ram(guest, there) == {}
    assert oracle.differing_pages(os.path.join(shm, "dimm.src"), there_path) == []
