# SPDX-License-Identifier: Apache-2.0
"""RAM that QEMU owns itself goes with the guest's: video RAM, an option ROM. Equal at the destination before it runs, also
what was written past QEMU, as a device would; and what cannot be reached from outside QEMU sends, as ever."""
import errno
import os
import re

import pytest

from gwtest.poke import poke
from gwtest.qemu import MIB
from scene import BOTH_WAYS, PATIENCE, TRACKERS, words_of

PAGE = 4096
ROM = 2 * MIB
VRAM = 16 * MIB
RAM = 64 * MIB
OFF = {"autostart": "off"}


def with_rom(path):
    """Arguments for a device whose option ROM is noise, and that noise."""
    noise = b"\x55\xaa\x01" + os.urandom(ROM - 3)
    with open(path, "wb") as file:
        file.write(noise)
    return ["-device", f"virtio-net-pci,romfile={path}"], noise


def vram_at(guest):
    """Where the guest has its video RAM; None while it is nowhere."""
    for bus in guest.qmp.execute("query-pci"):
        for device in bus["devices"]:
            if device["class_info"]["class"] == 0x300 and 0 < device["regions"][0]["address"] < 1 << 48:
                return device["regions"][0]["address"]
    return None


def hmp(guest, line):
    return guest.qmp.execute("human-monitor-command", {"command-line": line})


class Video:
    """The video RAM of a guest, whose firmware has begun to use it."""

    def __init__(self, guest):
        self._guest = guest
        while (at := vram_at(guest)) is None:
            pass
        self._at = at

    def write(self, page, data):
        """Past QEMU, which is told of nothing."""
        host = int(re.search(r"is (0x[0-9a-f]+)", hmp(self._guest, f"gpa2hva {self._at:#x}")).group(1), 16)
        poke(self._guest.pid, host + page * PAGE, data)

    def read(self):
        """As the guest sees it."""
        path = os.path.join(self._guest.directory, self._guest.name + ".vram")
        self._guest.qmp.execute("pmemsave", {"val": self._at, "size": VRAM, "filename": path})
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        return data


def differing(left, right):
    a, b = Video(left).read(), Video(right).read()
    assert len(a) == len(b) == VRAM
    return [at // PAGE for at in range(0, VRAM, PAGE) if a[at:at + PAGE] != b[at:at + PAGE]]


def has_at(fd, at, content):
    try:
        return os.pread(fd, len(content), at) == content
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False  # a guard page of a stack


def holds(guest, content):
    """Whether memory of the process has this at the beginning of a page: for ROMs, which lie nowhere in the guest."""
    fd = os.open(f"/proc/{guest.pid}/mem", os.O_RDONLY)
    try:
        with open(f"/proc/{guest.pid}/maps", encoding="utf-8") as maps:
            private = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *$", maps.read(), re.M)
        return any(has_at(fd, at, content[:16]) and has_at(fd, at, content) for start, end in private
                   for at in range(int(start, 16), int(end, 16) - len(content) + 1, PAGE))
    finally:
        os.close(fd)


def all_used(guest):
    """Bytes of all RAM blocks, QEMU's own among them."""
    return sum(int(line.split(" 0x")[2], 16) for line in hmp(guest, "info ramblock").splitlines() if " 0x" in line)


@pytest.fixture
def scene(make_real, shm):
    """A Scene whose source has noise in its video RAM; `noise` is that of its ROM, `other_rom` arguments for another."""
    ours, noise = with_rom(f"{shm}/rom-a")
    theirs, other = with_rom(f"{shm}/rom-b")
    made = make_real(memory=RAM, extra=ours)
    made.noise, made.other, made.other_rom = noise, other, theirs
    video = Video(made.source)
    for page, pages in ((3, 5), (63, 2), (1000, 700), (4095, 1)):
        video.write(page, os.urandom(pages * PAGE))
    return made


def check_equal(scene, there):
    assert differing(scene.source, there) == []
    assert holds(scene.source, scene.noise) and holds(there, scene.noise)
    assert not holds(there, scene.other)


@BOTH_WAYS
@pytest.mark.parametrize("settings", [{"tracker": t} for t in TRACKERS] + [{"page-digests": "off"}, {"channels": 4}],
                         ids=lambda s: "-".join(map(str, *s.items())))
def test_equal(scene, settings):
    there = scene.spare(extra=scene.other_rom)
    report = scene.migrate(there, {**OFF, **settings}).complete(PATIENCE)
    assert report["ram"]["total"] == all_used(scene.source)
    check_equal(scene, there)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_written_meanwhile(scene, tracker):
    """After the first pass: a page that becomes zero, one that is written anew, one that was zero."""
    there = scene.spare(extra=scene.other_rom)
    migration = scene.migrate(there, {**OFF, "tracker": tracker}, fault="hold@iterate=1500")
    migration.send.wait_event(event="pass")
    video = Video(scene.source)
    video.write(1001, bytes(PAGE))
    video.write(1003, os.urandom(2 * PAGE))
    video.write(2500, b"x")
    migration.complete(PATIENCE)
    check_equal(scene, there)
    after = Video(there).read()
    assert after[1001 * PAGE:1002 * PAGE] == bytes(PAGE) and after[2500 * PAGE:2500 * PAGE + 2] == b"x\0"


@pytest.mark.parametrize("tracker", TRACKERS)
def test_qemu_sends_none_of_it(scene, tracker):
    """Nor do its pages of it go over the wire; `device-state` is what did."""
    there = scene.spare(extra=scene.other_rom)
    migration = scene.migrate(there, {**OFF, "tracker": tracker})
    filtered = migration.send.wait_event(event="filtered", timeout=PATIENCE)
    report = migration.complete(PATIENCE)
    check_equal(scene, there)
    assert filtered["pages"] >= (VRAM + ROM) // PAGE and "why" not in filtered
    assert filtered["in"] > ROM + 700 * PAGE and filtered["out"] == report["device-state"] < MIB // 2


@pytest.mark.parametrize("pages", [1, 1500, 4200])
def test_qemu_sends_the_rest_of_it(scene, pages):
    """The filter gives up in the middle of the video RAM, or of the ROM: what was left out is there by the passes, what
    passes is QEMU's and right too."""
    there = scene.spare(extra=scene.other_rom)
    migration = scene.migrate(there, OFF, fault=f"give-up={pages}")
    filtered = migration.send.wait_event(event="filtered", timeout=PATIENCE)
    report = migration.complete(PATIENCE)
    check_equal(scene, there)
    assert filtered["pages"] == pages and filtered["why"] == "a fault that was planned"
    assert filtered["out"] == report["device-state"]


def test_a_vmm_that_does_not_say_what_it_is(scene):
    """How large a page is in its stream depends on that."""
    scene.check_failed(scene.migrate(scene.spare(extra=scene.other_rom), OFF, fault="qmp-refuse@query-target"))
    scene.check_runs_on()


def test_what_another_attempt_has_left(scene):
    """The destination holds a guest's video RAM from an attempt that failed: the next one finds none of it."""
    there = scene.spare(extra=scene.other_rom)
    scene.check_failed(scene.migrate(there, OFF, fault="fail@stop"))
    scene.monitored.append(there.qmp_path)
    scene.wait_gone()
    assert holds(there, scene.noise)
    Video(scene.source).write(0, bytes(VRAM))
    scene.migrate(there, OFF).complete(PATIENCE)
    check_equal(scene, there)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_written_when_it_stands_still(scene, tracker):
    """Behind the last look, by a device that writes although it is stopped: the guest runs on at the source."""
    settings = {**OFF, "tracker": tracker}
    migration = scene.migrate(scene.spare(extra=scene.other_rom), settings, fault="hold@device=1000")
    migration.send.wait_event(event="stage", stage="device")
    Video(scene.source).write(77, b"late")
    error = scene.check_failed(migration)
    assert "page 77 of RAM" in error["desc"] and "vga.vram" in error["desc"], error
    scene.check_runs_on()


@pytest.mark.parametrize("what", ["size", "place"])
@pytest.mark.parametrize("side, lists, stage", [("source", 1, "iterate"), ("source", 2, "final"), ("there", 2, "stop")],
                         ids=["before-the-stop", "in-the-pause", "before-it-loads"])
def test_another_meanwhile(scene, side, lists, stage, what):
    """What the monitor says of a block is not what it said when the guest was inspected, or the two sides agreed: from
    the list behind `lists` on."""
    seen = []

    def rewrite(line):
        if b"Block Name" in line:
            seen.append(line)
            if len(seen) > lists:
                size = rb"(vga.vram    4 KiB  0x[0-9a-f]{16} 0x0{9})1000000", rb"\g<1>0ff0000"
                place = rb"(vga.vram    4 KiB  0x[0-9a-f]{12})0000", rb"\g<1>1000"
                line, changed = re.subn(*(size if what == "size" else place), line)
                assert changed == 1
        return line

    there = scene.spare(extra=scene.other_rom)
    watched = scene.watch(scene.source if side == "source" else there, rewrite=rewrite)
    error = scene.check_failed(scene.migrate(there, OFF, **{side + "_monitor": watched}))
    assert error["stage"] == stage and error["class"] == "refused", error
    assert "QEMU has its own RAM 0000:00:02.0/vga.vram in another place or size meanwhile" in error["desc"], error
    scene.check_runs_on()


def without_proof(line):
    """The guest's own RAM, by which the addresses of all others are proved, lies elsewhere."""
    return line.replace(b" ram0 ", b" ramX ") if b"Block Name" in line else line


@pytest.mark.parametrize("side", ["source", "destination"])
def test_that_cannot_be_reached(scene, side):
    """On one side: then QEMU sends it, and that is said."""
    there = scene.spare(extra=scene.other_rom)
    guest = scene.source if side == "source" else there
    watched = scene.watch(guest, rewrite=without_proof)
    where = {"source_monitor" if side == "source" else "there_monitor": watched}
    migration = scene.migrate(there, OFF, **where)
    report = migration.complete(PATIENCE)
    assert report["ram"]["total"] == RAM
    check_equal(scene, there)
    said = words_of(migration.send if side == "source" else migration.receive)
    assert "16 MiB of RAM that QEMU owns itself (0000:00:02.0/vga.vram) cannot be reached" in said
    if side == "destination":
        assert "(0000:00:02.0/vga.vram) are not found in the same size at both ends" in words_of(migration.send)


@pytest.mark.parametrize("device_state", ["save"], indirect=True)
def test_what_the_destination_does_not_reach_is_put_to_the_device_state(scene):
    """A section of godwit's own in the stream that QEMU loads: all of QEMU's RAM is in it, zeros too."""
    there = scene.spare(extra=scene.other_rom)
    migration = scene.migrate(there, OFF, there_monitor=scene.watch(there, rewrite=without_proof))
    report = migration.complete(PATIENCE)
    assert report["ram"]["total"] == RAM and report["device-state"] > ROM + 700 * PAGE
    check_equal(scene, there)


@pytest.mark.parametrize("device_state", ["save"], indirect=True)
def test_what_is_left_to_the_device_state_is_in_another_place(scene):
    seen = []

    def rewrite(line):
        if b"Block Name" in line:
            seen.append(line)
            if len(seen) > 2:  # in the pause
                line, changed = re.subn(rb"(vga.vram    4 KiB  0x[0-9a-f]{12})0000", rb"\g<1>1000", line)
                assert changed == 1
        return line

    there = scene.spare(extra=scene.other_rom)
    error = scene.check_failed(scene.migrate(there, OFF, source_monitor=scene.watch(scene.source, rewrite=rewrite),
                                             there_monitor=scene.watch(there, rewrite=without_proof)))
    assert error["stage"] == "final" and "vga.vram in another place or size meanwhile" in error["desc"], error
    scene.check_runs_on()


@pytest.mark.parametrize("device_state", ["save"], indirect=True)
def test_what_cannot_be_read_bars_saving(scene):
    watched = scene.watch(scene.source, rewrite=without_proof)
    error = scene.check_failed(scene.migrate(scene.spare(extra=scene.other_rom), source_monitor=watched))
    assert error["stage"] == "inspect" and "cannot be read from outside: " in error["desc"], error
    assert "vga.vram" in error["desc"]
    scene.check_runs_on()
