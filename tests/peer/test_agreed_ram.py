# SPDX-License-Identifier: Apache-2.0
"""Which RAM of QEMU's own goes in the passes is agreed upon: nobody gets the other to count blocks as it does not."""
import copy
import os
import re

import pytest

from gwtest.peer_destination import Destination
from gwtest.peer_source import Source, rehearse
from scene import PATIENCE

BIOS = "pc.bios"
ROM = "0000:00:02.0/vga.rom"
VRAM = "0000:00:02.0/vga.vram"


def answer(scene, ids):
    """Sends to a destination that names these blocks. The source's error."""
    with Destination() as peer:
        send = scene.send(peer)
        request = peer.serve("inspect")
        offered = [block["id"] for block in request["args"]["guest"]["own-ram"]]
        assert BIOS in offered and VRAM in offered and offered == sorted(offered)
        peer.answer(request, **{"own-ram": ids})
        return scene.check_failed_alone(send)


@pytest.mark.parametrize("ids", [["nonsense"], [BIOS, "nonsense"], [BIOS, BIOS], [7], [{"id": BIOS, "size": 1}], ["ram0"]],
                         ids=str)
def test_what_was_not_offered(make_real, ids):
    scene = make_real()
    error = answer(scene, ids)
    assert error["class"] == "peer" and "not offered, or names it twice" in error["desc"], error
    scene.check_runs_on()


@pytest.mark.parametrize("ids", [None, {}, "all", [], [BIOS], [ROM, BIOS], [BIOS, ROM]], ids=str)
def test_blocks_that_it_takes(make_real, ids):
    """In the order of their ids, behind the back end; of the others nothing comes on the channels."""
    scene = make_real()
    with Destination() as peer:
        send = scene.send(peer)
        request = peer.serve("inspect")
        peer.answer(request, **{"own-ram": ids})
        peer.serve("stop")
        taken = sorted(ids) if isinstance(ids, list) else []
        frames = [frame for channel in peer.channels for frame in channel.frames if frame.runs]
        assert {frame.block for frame in frames} == set(range(1 + len(taken)))
        if ROM in taken:
            first = [f for f in frames if f.block == 1 + taken.index(ROM) and f.runs[0][0] == 0]
            assert first[0].payload[:2] == b"\x55\xaa"
        peer.error()
        scene.check_failed_alone(send)
    scene.check_runs_on()


def without(guest):
    del guest["own-ram"]


def cut(guest):
    guest["own-ram"] = [block for block in guest["own-ram"] if block["id"] == BIOS]


def another_size(guest):
    for block in guest["own-ram"]:
        block["size"] += 4096 if block["id"] != BIOS else 0


def nonsense(guest):
    guest["own-ram"] = [7, None, {}, {"id": 7}, {"id": VRAM}, {"id": VRAM, "size": "x"}, {"size": 1}, ["x"],
                        {"id": "nobody's", "size": 4096}, {"id": BIOS, "size": 256 << 10}]


def no_list(guest):
    guest["own-ram"] = {"id": BIOS, "size": 256 << 10}


@pytest.mark.parametrize("lie, taken", [(without, []), (cut, [BIOS]), (another_size, [BIOS]), (nonsense, [BIOS]),
                                        (no_list, [])], ids=lambda x: getattr(x, "__name__", None))
def test_what_a_source_offers(make_real, lie, taken):
    scene = make_real()
    part = rehearse(scene.source)
    part.guest = copy.deepcopy(part.guest)
    lie(part.guest)
    receive = scene.receive()
    with Source(receive.port, part) as peer:
        peer.meet()
        reply = peer.do("inspect")
        assert reply["own-ram"] == taken
        peer.talk.send({"type": "abort", "class": "peer", "desc": "enough"})
        receive.wait(PATIENCE)


def mappings(guest):
    """(start, end, permissions, inode) of each."""
    with open(f"/proc/{guest.pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            where, permissions, _, _, inode = line.split()[:5]
            start, end = (int(word, 16) for word in where.split("-"))
            yield start, end, permissions, int(inode)


def telling(addresses):
    """What makes a monitor say these addresses of blocks and no others, as since 8.2, whatever QEMU it is."""
    def rewrite(line):
        if b"Block Name" not in line:
            return line
        line = re.sub(rb" 0x[0-9a-f]{16} +r[wo]", b"", line)
        for name, at in addresses.items():
            row = rb"( %s +\d+ [KM]iB(?: +0x[0-9a-f]{16}){3})" % re.escape(name.encode())
            line, found = re.subn(row, rb"\1 0x%016x  rw" % at, line)
            assert found == 1
        return line
    return rewrite


@pytest.mark.parametrize("case", ["right", "across its end", "no whole page", "of a file", "twice"])
def test_addresses_that_a_vmm_tells(make_real, case):
    """Only memory that is the process's own, in one piece, and of one block is read."""
    scene = make_real()
    maps = list(mappings(scene.source))
    ram = next(m[0] for m in maps if m[3] == os.stat(scene.source.ram_paths[0]).st_ino)
    start, end = next((m[0], m[1]) for m in maps if m[2] == "rw-p" and m[3] == 0 and m[1] - m[0] >= 4 << 20)
    of_file = next(m[0] for m in maps if m[2] == "rw-p" and m[3] != 0 and m[1] - m[0] >= 64 << 10)
    told = {"right": {ROM: start}, "across its end": {ROM: end - 4096}, "no whole page": {ROM: start + 8},
            "of a file": {ROM: of_file}, "twice": {ROM: start, BIOS: start + 4096}}[case]
    with Destination() as peer:
        send = scene.send(peer, monitor=scene.watch(scene.source, rewrite=telling({"ram0": ram, **told})))
        request = peer.serve("inspect")
        offered = [block["id"] for block in request["args"]["guest"]["own-ram"]]
        peer.answer(request, **{"own-ram": ["nonsense"]})
        scene.check_failed_alone(send)
    assert len(offered) == (1 if case in ("right", "twice") else 0) and set(offered) <= {BIOS, ROM}
    scene.check_runs_on()
