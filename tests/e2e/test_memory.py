# SPDX-License-Identifier: Apache-2.0
"""A migration does not make either host use more memory for the guest than the guest uses."""
import os

from gwtest import engine as gw, oracle
from gwtest.qemu import MIB


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
