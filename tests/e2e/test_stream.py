# SPDX-License-Identifier: Apache-2.0
"""Streams that a real QEMU writes, with RAM blocks left out: whether QEMU loads them, and what it has then.

The destination's content is read by having it migrate in its turn: its stream has every block of RAM in it."""
import json
import os
import struct
import subprocess

import pytest

from gwtest import places
from gwtest.recording import PAGE, Recording

MIB = 1 << 20
VIDEO = 16 * MIB
ROM = 2 * MIB
CARRIED = "0000:00:05.0/virtio-net-pci.rom"
OTHER = "0000:00:06.0/virtio-net-pci.rom"


def noise(path, seed):
    """A file that stands for a device's ROM. Not all of it: pages of zeros are sent in another way."""
    with open(path, "wb") as file:
        for i in range(ROM // PAGE):
            file.write(bytes(PAGE) if i % 5 == seed else bytes([seed]) + os.urandom(PAGE - 1))
    return path


@pytest.fixture
def make_machine(make_bare, shm):
    """A machine with video RAM and two noisy ROMs; that of a destination has other noise."""
    def make(name, incoming=False, machine="pc"):
        seeds = (3, 4) if incoming else (1, 2)
        roms = [noise(os.path.join(shm, f"{name}.rom{seed}"), seed) for seed in seeds]
        extra = []
        for slot, rom in zip((5, 6), roms):
            extra += ["-device", f"virtio-net-pci,addr={slot},romfile={rom},id=net{slot}"]
        return make_bare(name=name, machine=machine, incoming=incoming, extra=extra)
    return make


def capability(guest, name, state):
    guest.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])


def migrated(qmp):
    state = qmp.execute("query-migrate").get("status")
    assert state not in ("failed", "cancelled")
    return state == "completed"


def record(guest, path):
    guest.qmp.execute("stop")
    guest.qmp.execute("migrate", uri=f"exec:cat > {path}")
    guest.qmp.wait_until(migrated)
    return Recording(path)


def sieve(pieces, source, target, *blocks):
    """What the filter says of itself."""
    program = os.path.join(places.build(), "tests", "sieve")
    done = subprocess.run([program, str(pieces), source, target, *blocks], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def load(guest, path, source, shared):
    """Guest memory that QEMU did not send is there before, as with godwit: devices look at it while they are loaded."""
    if shared:
        with open(guest.ram_paths[0], "r+b") as ram:
            ram.write(content(source.ram_paths[0]))
    capability(guest, "x-ignore-shared", shared)
    guest.qmp.execute("migrate-incoming", uri=f"exec:cat {path}")
    try:
        guest.qmp.wait_until(migrated)
    except OSError as error:  # a QEMU that cannot load a stream ends
        raise AssertionError(guest.log()) from error


# A machine type is a version of the stream of its own; every QEMU here knows this old one.
@pytest.mark.parametrize("machine", ["pc", "pc-i440fx-7.2"])
@pytest.mark.parametrize("shared", [True, False], ids=["ignore-shared", "all"])
def test_qemu_loads_what_is_left(make_machine, shm, machine, shared):
    """Video RAM and one ROM are left out, however the stream is cut; the destination's QEMU loads the rest, and has the
    other ROM, the BIOS and so on as they were at the source."""
    whole, left, again, mine = (os.path.join(shm, name) for name in ("whole", "left", "again", "mine"))
    source = make_machine("src", machine=machine)
    capability(source, "x-ignore-shared", shared)
    sent = record(source, whole)
    video = next(name for name in sent.blocks if name.endswith("vga.vram"))
    assert sent.records[video] >= VIDEO // PAGE
    assert set(sent.records) >= {video, CARRIED, OTHER, "pc.bios"} and ("ram0" in sent.records) != shared

    for pieces in (0, 1, 2, 3):
        said = sieve(pieces, whole, again)
        assert said["why"] is None and said["pages"] == 0
        assert content(again) == content(whole)
    said = sieve(0, whole, left, video, CARRIED)
    assert said["why"] is None and said["pages"] == sent.records[video] + sent.records[CARRIED]
    for pieces in range(1, 12):
        assert {**sieve(pieces, whole, again, video, CARRIED), "ns": 0} == {**said, "ns": 0}
        assert content(again) == content(left)
    print(f"{machine}, {said}: {said['in'] / said['ns']:.1f} GB/s; sections {sorted(set(sent.sections))}")

    kept = Recording(left)
    assert kept.blocks == sent.blocks and kept.sections == sent.sections and kept.devices == sent.devices
    assert kept.pages == {name: pages for name, pages in sent.pages.items() if name not in (video, CARRIED)}

    there = make_machine("dst", incoming=True, machine=machine)
    load(there, left, source, shared)
    capability(there, "x-ignore-shared", shared)
    got = record(there, mine)
    assert got.blocks == sent.blocks
    for name in sent.pages:
        if name not in (video, CARRIED):
            assert got.pages[name] == sent.pages[name], name
    assert got.pages[CARRIED] != sent.pages[CARRIED]


def unknown(where, ident):
    """What QEMU knows and the filter does not: an empty list of blocks among pages, or, between two sections, that
    postcopy might come for something else than RAM."""
    if where == "record":
        return struct.pack(">Q", 0x04)
    return struct.pack(">QBI", 0x10, 0x7e, ident) + struct.pack(">BHH", 8, 3, 0) + struct.pack(">BI", 2, ident)


@pytest.mark.parametrize("where", ["record", "section"])
def test_qemu_loads_what_passes_since_something_unknown(make_machine, shm, where):
    """In the middle of a ROM that is left out, and the next page says CONTINUE: QEMU loads that, and every page from the
    last one on that was left out is where it belongs."""
    whole, left, again, mine = (os.path.join(shm, name) for name in ("whole", "left", "again", "mine"))
    source = make_machine("src")
    capability(source, "x-ignore-shared", True)
    sent = record(source, whole)
    marks = [mark for mark in sent.marks if mark[1] == CARRIED]
    last, (at, _, _, goes_on) = marks[299:301]
    assert goes_on and last[2] == 299 * PAGE
    stream = content(whole)
    with open(whole, "wb") as file:
        file.write(stream[:at] + unknown(where, sent.ident) + stream[at:])

    said = sieve(0, whole, left, CARRIED)
    assert said["pages"] == 300
    assert said["why"] == {"record": "an unknown flag of a page", "section": "an unknown command"}[where]
    for pieces in range(1, 12):
        assert sieve(pieces, whole, again, CARRIED)["why"] == said["why"]
        assert content(again) == content(left)

    there = make_machine("dst", incoming=True)
    load(there, left, source, True)
    capability(there, "x-ignore-shared", True)
    got = record(there, mine)
    for name in set(sent.pages) - {CARRIED}:
        assert got.pages[name] == sent.pages[name], name
    own = content(os.path.join(shm, "dst.rom3"))
    for offset, page in got.pages[CARRIED].items():
        if offset >= 299 * PAGE:
            assert page == sent.pages[CARRIED][offset]
        else:  # newer QEMUs do not load a ROM that they expect to be sent
            assert page in (own[offset:offset + PAGE], bytes(PAGE))
