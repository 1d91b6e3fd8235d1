# SPDX-License-Identifier: Apache-2.0
"""A migration does not make either host use more memory for the guest than the guest uses."""
import ctypes
import mmap
import os
import subprocess

import pytest

from gwtest import engine as gw, oracle
from gwtest.qemu import MIB, Backend

LIBC = ctypes.CDLL(None, use_errno=True)


def test_holes_stay_holes(make_guest, engine):
    """4 GiB of which 300 MiB are used: allocated blocks on both sides, and godwit's own memory."""
    guest = make_guest(memory=4096 * MIB, load={"mem": 200, "rate": 4000})
    guest.wait_ready()
    there = make_guest.destination(guest)
    path = guest.ram_paths[0]
    with gw.Migration(guest, there, settings={"autostart": "off"}) as migration:
        used = oracle.allocated(path)
        sent, received = migration.wait()
    assert sent.code == 0 and received.code == 0
    assert oracle.compare_ram(guest, there) == {}
    print(f"source {used >> 20} MiB before, {oracle.allocated(path) >> 20} MiB after, "
          f"destination {oracle.allocated(there.ram_paths[0]) >> 20} MiB; "
          f"max-rss {sent.report['max-rss']} KiB and {received.report['max-rss']} KiB")
    # The guest goes on filling pages while it is moved: what it had used in the end is what counts for it.
    assert used < 700 * MIB
    assert oracle.allocated(path) <= used * 1.01
    assert oracle.allocated(there.ram_paths[0]) <= used * 1.01
    limit = (64 * MIB + 4096 * MIB // 100) // 1024
    assert sent.report["max-rss"] <= limit and received.report["max-rss"] <= limit


def test_stale_destination_file(make_stunt, shm, engine):
    """The destination's file held another guest's memory: none of it is left, and no page is wasted on it. It has one
    hole, behind that guest's VGA window: so it was not preallocated."""
    size = 64 * MIB
    source = make_stunt(name="src", memory=size, fill=40, load=None)
    stale = os.path.join(shm, "stale")
    with open(stale, "wb") as file:
        for _ in range(size // MIB):
            file.write(b"\xa5" * MIB)
    punch(stale, 0xa0000, 0x20000)
    there = make_stunt.destination(source, backends=[source.backends[0]._replace(path=stale)])
    with gw.Migration(source, there, settings={"autostart": "off"}) as migration:
        migration.complete()
    assert oracle.compare_ram(source, there) == {}
    assert oracle.allocated(stale) <= oracle.allocated(source.ram_paths[0])


def punch(path, offset, length):
    """A hole, as QEMU makes it for a balloon."""
    keep_size, punch_hole = 1, 2
    with open(path, "r+b") as file:
        if LIBC.fallocate(file.fileno(), keep_size | punch_hole, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
            raise OSError(ctypes.get_errno(), "fallocate")


def test_memory_given_back_meanwhile(make_stunt, engine):
    """Pages that are punched out after they were sent, before the last scan: no tracker reports them."""
    source = make_stunt(name="src", memory=64 * MIB, fill=100, mix="50,30,20,0", load=None)
    there = make_stunt.destination(source)
    path = source.ram_paths[0]
    with gw.Migration(source, there, settings={"autostart": "off"}, fault="hold@stop=1000") as migration:
        migration.send.wait_event(event="stage", stage="stop")
        for offset in (0, 5 * MIB + 4096, 63 * MIB):
            punch(path, offset, MIB)
        migration.complete()
    assert oracle.compare_ram(source, there) == {}
    assert oracle.allocated(there.ram_paths[0]) <= oracle.allocated(path) < 62 * MIB


@pytest.mark.parametrize("left", ["nothing", "a guest"])
def test_preallocated_memory_stays(make_stunt, shm, engine, left):
    """Memory that the destination's file got beforehand is still its own after pages came, and after they became zero:
    for the guest it is a promise that a write there needs nothing from a full host."""
    size = 64 * MIB
    source = make_stunt(name="src", memory=size, fill=60, mix="50,30,20,0", load=None)
    path = os.path.join(shm, "preallocated")
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        if left != "nothing":
            for _ in range(size // MIB):
                file.write(b"\xa5" * MIB)
    there = make_stunt.destination(source, backends=[source.backends[0]._replace(path=path)])
    with gw.Migration(source, there, settings={"autostart": "off"}, fault="hold@stop=500") as migration:
        migration.send.wait_event(event="stage", stage="stop")
        punch(source.ram_paths[0], 5 * MIB + 4096, 20 * MIB)  # arrives as zeros, late
        migration.complete()
    assert oracle.compare_ram(source, there) == {}
    assert oracle.allocated(source.ram_paths[0]) < size - 20 * MIB
    assert oracle.allocated(path) == size


@pytest.fixture
def bounded_hugetlbfs(hugepages, tmp_path):
    """A hugetlbfs with a size: that counts what is reserved in it and not yet there, whoever else takes huge pages."""
    hugepages(160 * MIB)
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,size=80M", "none", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize("left", ["nothing", "a guest"])
def test_reserved_huge_pages_stay(make_stunt, hugepages, bounded_hugetlbfs, engine, left):
    """What the destination's VMM has reserved in the pool of huge pages nobody else can take, before, during and after;
    also when an earlier guest had left its memory in the file."""
    size = 64 * MIB
    path = str(bounded_hugetlbfs / "ram")

    def taken():
        fs = os.statvfs(bounded_hugetlbfs)
        return (fs.f_blocks - fs.f_bfree) * fs.f_frsize

    if left != "nothing":
        with open(path, "w+b") as file:
            file.truncate(size)
            with mmap.mmap(file.fileno(), size) as memory:
                memory[:] = b"\xa5" * size
    huge = Backend("ram0", size, os.path.join(hugepages(size).directory, "src"))
    source = make_stunt(name="src", backends=[huge], fill=50, mix="50,30,20,0", load=None)
    there = make_stunt.destination(source, backends=[huge._replace(path=path)])
    assert taken() == size
    with gw.Migration(source, there, settings={"autostart": "off"}) as migration:
        migration.complete()
    assert taken() == size
    assert oracle.compare_ram(source, there) == {}
