# SPDX-License-Identifier: Apache-2.0
"""A migration does not make either host use more memory for the guest than the guest uses."""
import ctypes
import os

from gwtest import engine as gw, oracle
from gwtest.qemu import MIB

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
    """The destination's file held another guest's memory: none of it is left, and no page is wasted on it."""
    size = 64 * MIB
    source = make_stunt(name="src", memory=size, fill=40, load=None)
    stale = os.path.join(shm, "stale")
    with open(stale, "wb") as file:
        for _ in range(size // MIB):
            file.write(b"\xa5" * MIB)
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
