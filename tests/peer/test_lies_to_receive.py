# SPDX-License-Identifier: Apache-2.0
"""What a source says that it must not say: `receive` refuses it with a sentence, and the destination's guest never runs
of what came."""
import contextlib
import dataclasses
import os
import socket
import struct
import time
import zlib

import pytest

from gwtest import wire
from gwtest.peer_destination import REPEATED, STAGES
from gwtest.peer_source import Source
from gwtest.qemu import MIB
from gwtest.qmp import Qmp
from scene import PATIENCE, wait_until

BLOCK_PAGES = 32 * MIB // wire.PAGE


@pytest.fixture
def lie(actor):
    """lie(stage, act): an honest source until `stage` is next; then act(peer). What `receive` ended with (exit status 1),
    after it was seen that the destination's guest does not run."""
    def play(stage, act, settings=None, timeout=PATIENCE, **options):
        receive = actor.receive(settings=settings)
        with Source(receive.port, actor.part, **options) as peer:
            peer.play(stage)
            act(peer)
            result = receive.wait(timeout)
        assert result.code == 1, result
        check_does_not_run(receive.guest)
        return result.report["error"]
    play.scene = actor
    return play


def check_does_not_run(guest):
    """It may be gone, or going: a QEMU that began to load and got no more ends by itself."""
    while guest.alive():
        try:
            with Qmp(guest.qmp_path, timeout=1) as qmp:
                assert qmp.execute("query-status")["status"] in ("inmigrate", "paused")
                return
        except (FileNotFoundError, ConnectionError, TimeoutError):
            continue


def refused(receive):
    """What the receiver says of a source that it did not take: it waits for another one."""
    return receive.wait_event(event="refused", timeout=PATIENCE)["why"]


@pytest.mark.parametrize("due", STAGES[1:])
def test_stages_in_any_order(lie, due):
    """The one before again, one that is left out, and `run`: refused, whatever was done before."""
    at = STAGES.index(due)
    for stage in {*STAGES[at - 1:at], *STAGES[at + 1:at + 2], "run"} - {due, *(s for s in REPEATED if s == STAGES[at - 1])}:
        error = lie(due, lambda peer, stage=stage: peer.request(stage, **peer.args(stage)))
        assert error["class"] == "peer" and stage in error["desc"], error


@pytest.mark.parametrize("stage", STAGES[1:])
def test_the_first_stage_is_not_another(actor, stage):
    """Then it is nobody's migration yet: the receiver waits on."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.meet()
        peer.request(stage, **peer.args(stage))
        assert stage in refused(receive)
        assert peer.answer()["type"] == "error"
    assert receive.alive()
    with Source(receive.port, actor.part) as peer:
        peer.play("bye")
    assert receive.wait(PATIENCE).code == 0


WORDS = {
    "no type": {"stage": "iterate"},
    "a type that is none": {"type": "nonsense"},
    "a type that is no text": {"type": 5},
    "a message of destinations": {"type": "reply", "stage": "iterate"},
    "an error": {"type": "error", "class": "peer", "desc": "x"},
    "a goodbye": {"type": "bye"},
    "a request without a stage": {"type": "request"},
    "a request for a number": {"type": "request", "stage": 3, "args": {}},
    "a request for nonsense": {"type": "request", "stage": "x" * 1000},
    "an array": b"[]",
    "not JSON": b"\x00\x01\x02",
    "half of an object": b'{"type": "requ',
    "a deep array": b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}",
}


@pytest.mark.parametrize("what", WORDS)
@pytest.mark.parametrize("stage", ["attach", "final"])
def test_words_that_it_must_not_say(lie, stage, what):
    assert lie(stage, lambda peer: peer.talk.send(WORDS[what]))["class"] == "peer"


def test_two_requests_at_once(lie):
    """A second one while the first is served."""
    def act(peer):
        text = b"".join(wire.message({"type": "request", "stage": "iterate", "args": {"pass": 1}}) for _ in range(3))
        peer.talk.send_bytes(text)
    assert lie("iterate", act)["class"] == "peer"


@pytest.mark.parametrize("size", [wire.LONGEST_MESSAGE + 1, 0xffffffff])
def test_a_message_too_long(lie, size):
    error = lie("stop", lambda peer: peer.talk.send_bytes(struct.pack("<I", size)))
    assert error["class"] == "peer" and str(size) in error["desc"]


@pytest.mark.parametrize("stage", ["attach", "iterate", "device"])
@pytest.mark.parametrize("text", [b"", b"\x40\0\0\0{\"type\":"])
def test_half_a_message_then_nothing(lie, stage, text):
    def act(peer):
        peer.talk.mute()
        peer.talk.send_bytes(text)
    began = time.monotonic()
    assert lie(stage, act, settings={"link-timeout": 2})["class"] == "link"
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("stage", ["attach", "iterate", "stop", "final", "device", "run"])
def test_it_gives_up(lie, stage):
    """An abort counts whenever it comes before `run`; after the device state is loaded above all."""
    def act(peer):
        peer.talk.send({"type": "abort", "class": "cancelled", "desc": "I have changed my mind"})
    assert "I have changed my mind" in lie(stage, act)["desc"]


# ---- connections ----


def test_channels_need_the_session(actor):
    """While a migration waits for its channels: a stranger gets none, and takes nobody's place."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("attach")
        for session in (bytes(16), bytes([255] * 16), peer.session[:15] + bytes([peer.session[15] ^ 1])):
            for role in (wire.CHANNEL, wire.DEVICE):
                assert peer.connect(role, 0, session=session) == (None, wire.NO_SESSION)
                assert "does not belong" in refused(receive)
        peer.do("attach")
        for stage in STAGES[2:]:
            peer.do(stage)
        peer.talk.send({"type": "bye"})
        assert receive.wait(PATIENCE).code == 0


@pytest.mark.parametrize("number", [1, 2, 63, 64, 65535])
def test_channels_come_in_order(actor, number):
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("attach")
        assert peer.connect(wire.CHANNEL, number) == (None, wire.NO_SESSION)
        assert "does not belong" in refused(receive)


def test_one_device_connection(actor):
    """A second one would be a second device state."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("attach")
        one, status = peer.connect(wire.DEVICE)
        assert status == wire.WELCOME
        assert peer.connect(wire.DEVICE) == (None, wire.NO_SESSION)
        assert "does not belong" in refused(receive)
        one.close()


@pytest.mark.parametrize("stage", ["inspect", "iterate", "run"])
@pytest.mark.parametrize("role", [wire.CHANNEL, wire.DEVICE])
def test_connections_at_the_wrong_time(actor, stage, role):
    """Before the two sides have agreed, and after all have come."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.meet()
        peer.play(stage)
        assert peer.connect(role, len(peer.channels)) == (None, wire.NO_SESSION)
        assert "does not belong" in refused(receive)
        if stage != "inspect":  # until then others may stand beside it
            assert peer.connect(wire.CONTROL, session=bytes(16)) == (None, wire.BUSY)


@pytest.mark.parametrize("which, stage", [("control", "attach"), ("control", "iterate"), ("control", "device"),
                                          ("ram", "iterate"), ("ram", "final"), ("device", "final"), ("device", "device")])
def test_a_connection_is_closed(lie, stage, which):
    """One from which something is still to come."""
    def act(peer):
        sock = {"control": [peer.talk.sock], "ram": peer.channels, "device": [peer.device]}[which][-1]
        sock.shutdown(socket.SHUT_RDWR)
        if which != "control":
            peer.number += 1
            peer.request(stage, **peer.args(stage))
    began = time.monotonic()
    assert lie(stage, act, settings={"link-timeout": 30})["class"] in ("link", "vmm")
    assert time.monotonic() - began < 10


# ---- attach ----

ATTACH = {
    "no channel": {"channels": 0},
    "-1 channels": {"channels": -1},
    "65 channels": {"channels": 65},
    "2^32 + 1 channels": {"channels": (1 << 32) + 1},
    "a text": {"channels": "2"},
    "no number": {"channels": None},
    "no key": {"digest-key": None},
    "an empty key": {"digest-key": ""},
    "a short key": {"digest-key": "00" * 191},
    "a long key": {"digest-key": "00" * 193},
    "a key that is none": {"digest-key": "zz" * 192},
}


@pytest.mark.parametrize("what", ATTACH)
def test_attach_with_nonsense(lie, what):
    def act(peer):
        if "digest-key" in ATTACH[what]:
            peer.open_channels()
        peer.request("attach", **{**peer.args("attach"), **ATTACH[what]})
    assert lie("attach", act)["class"] == "peer"


# ---- pages ----


def page(peer, first=0, content=b"\xa5" * wire.PAGE, **others):
    return peer.pages(0, first, content, **others)


def changed(frame, at):
    """The frame, one bit of it flipped."""
    data = bytearray(frame.pack())
    data[at] ^= 1
    return bytes(data)


def runs(peer, *list_, **others):
    content = b"\xa5" * wire.PAGE * sum(n for _, n in list_)
    return wire.Frame(number=peer.number, runs=list(list_), payload=content, digest=wire.digest(content, peer.secret),
                      **others)


FRAMES = {
    "a page that was damaged": lambda p: changed(page(p), -1),
    "a digest that was damaged": lambda p: changed(page(p), 24),
    "a digest whose low half is another": lambda p: dataclasses.replace(page(p), digest=bytes(8) + page(p).digest[8:]),
    "a digest of another secret": lambda p: wire.pages_frame(p.number, 0, 0, b"\xa5" * wire.PAGE, bytes(192)),
    "another place": lambda p: changed(page(p, first=2), wire.HEADER_SIZE + 3),
    "a check that was damaged": lambda p: changed(page(p), 48),
    "another magic": lambda p: changed(page(p), 0),
    "pass 0": lambda p: page(p, number_=0),
    "an old pass": lambda p: page(p, number_=p.number - 1),
    "a pass too early": lambda p: page(p, number_=p.number + 1),
    "the last pass of all": lambda p: page(p, number_=0xffffffff),
    "another block": lambda p: wire.pages_frame(p.number, 1, 0, bytes(wire.PAGE), p.secret),
    "block 65535": lambda p: wire.pages_frame(p.number, 65535, 0, bytes(wire.PAGE), p.secret),
    "behind the end": lambda p: runs(p, (BLOCK_PAGES, 1)),
    "over the end": lambda p: runs(p, (BLOCK_PAGES - 1, 2)),
    "far behind the end": lambda p: runs(p, ((1 << 40) - 1, 1)),
    "no page": lambda p: wire.Frame(number=p.number, runs=[(0, 0)], payload=b"x"),
    "no runs": lambda p: wire.Frame(number=p.number, payload=b"x"),
    "descending runs": lambda p: runs(p, (5, 1), (3, 1)),
    "a page twice": lambda p: runs(p, (3, 2), (4, 1)),
    "another sum": lambda p: runs(p, (3, 2), pages=3),
    "more pages than a batch": lambda p: deflated(p, b"\xa5" * 129 * wire.PAGE, 129),
    "65536 runs": lambda p: wire.Frame(number=p.number, runs=[(i, 1) for i in range(65536)], payload=b"x"),
    "no payload": lambda p: wire.Frame(number=p.number, runs=[(0, 1)]),
    "a payload too long": lambda p: wire.Frame(number=p.number, runs=[(0, 1)], length=1 << 30),
    "kind 0": lambda p: wire.Frame(0, number=p.number, runs=[(0, 1)], payload=b"x"),
    "kind 77": lambda p: wire.Frame(77, number=p.number, runs=[(0, 1)], payload=b"x"),
    "a codec that is none": lambda p: page(p, codec=77),
    "zeros with a payload": lambda p: wire.Frame(wire.ZERO, number=p.number, runs=[(0, 1)], payload=b"x"),
    "zeros behind the end": lambda p: wire.Frame(wire.ZERO, number=p.number, runs=[(BLOCK_PAGES, 1)]),
    "zeros of 2^24 pages": lambda p: wire.Frame(wire.ZERO, number=p.number, runs=[(0, 0xffffff)]),
    "an end with runs": lambda p: wire.Frame(wire.PASS_END, number=p.number, runs=[(0, 1)]),
    "an end with a payload": lambda p: wire.Frame(wire.PASS_END, number=p.number, payload=b"x"),
    "the end of an old pass": lambda p: wire.pass_end(p.number - 1, 0),
    "the end of a later pass": lambda p: wire.pass_end(p.number + 1, 0),
    "an end that counts pages that never came": lambda p: wire.pass_end(p.number, 5),
    "spoiled deflate": lambda p: page(p, codec=wire.DEFLATE),
    "spoiled LZ4": lambda p: page(p, codec=wire.LZ4),
    "spoiled zstd": lambda p: page(p, codec=wire.ZSTD),
    "deflate of too little": lambda p: deflated(p, bytes(100)),
    "deflate of too much": lambda p: deflated(p, bytes(1 << 24)),
    "a change to nothing": lambda p: change(p, b""),
    "a change of no length": lambda p: change(p, b"\x00"),
    "a change over the end of a page": lambda p: change(p, b"\x80\x80\x80\x01" + b"x" * 64),
    "a change in many bytes": lambda p: change(p, b"\x81\x80\x80\x80\x80\x00x"),
    "a change with a codec": lambda p: change(p, b"\x01\x00x\x00", codec=wire.LZ4),
}


def deflated(peer, content, count=1):
    """`count` pages from the first one on, right but for what `content` is too much or too little for them."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (engine.compress(content) + engine.flush())[:wire.PAGE]
    return wire.Frame(number=peer.number, codec=wire.DEFLATE, runs=[(0, count)], payload=data,
                      digest=wire.digest(content[:count * wire.PAGE].ljust(wire.PAGE, b"\0"), peer.secret))


def change(peer, payload, **others):
    return wire.Frame(wire.CHANGES, number=peer.number, runs=[(0, 1)], payload=payload or b"\x00",
                      digest=wire.digest(b"\xa5" * wire.PAGE, peer.secret), **others)


@pytest.mark.parametrize("what", FRAMES)
def test_frames_that_cannot_be(lie, what):
    """Nothing of it is placed: RAM at the destination is what it was."""
    seen = {}

    def act(peer):
        seen["before"] = ram(lie.scene)
        frame = FRAMES[what](peer)
        peer.send_frame(frame)
        ends = isinstance(frame, wire.Frame) and frame.kind == wire.PASS_END
        with contextlib.suppress(OSError):  # it may have hung up by now
            for i in range(ends, len(peer.channels)):
                peer.send_frame(wire.pass_end(peer.number, i == 0), i)
            peer.request("final", **{"pass": peer.number})
    error = lie("final", act)
    assert error["class"] in ("peer", "corrupt"), error
    assert ram(lie.scene) == seen["before"], "a page was placed"


@pytest.mark.parametrize("pages, payload", [(2, 1), (1, 2), (128, 127)])
def test_raw_pages_are_as_many_bytes_as_they_are(lie, pages, payload):
    """Refused for that, and not because by luck what else was in the buffer does not fit the digest."""
    def act(peer):
        peer.send_frame(wire.Frame(number=peer.number, runs=[(0, pages)], payload=b"x" * payload * wire.PAGE))
    error = lie("final", act)
    assert error["class"] == "peer" and f"a batch of {pages} pages with {payload * wire.PAGE} bytes" in error["desc"], error


def ram(scene):
    """RAM of the destination that was made last."""
    path = os.path.join(os.path.dirname(scene._home), f"{os.path.basename(scene._home)}-there{scene._count}.ram0")
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("number", [0, -1, 1 << 32, 1 << 62, "1", None, 1.5])
@pytest.mark.parametrize("stage", ["iterate", "final"])
def test_a_pass_that_cannot_be(lie, stage, number):
    error = lie(stage, lambda peer: peer.request(stage, **{"pass": number}))
    assert error["class"] == "peer"


# ---- rejected pages ----


def spoiled(peer, device=1):
    return page(peer, codec=wire.DEFLATE, device=device)


def test_device_state_of_a_guest_with_pages_missing(lie):
    """Pages were rejected and did not come again: no device state is loaded on top of that."""
    def act(peer):
        peer.send_frame(spoiled(peer))
        peer.end_pass([1] + [0] * (len(peer.channels) - 1))
        peer.request("final", **peer.args("final"))
        assert peer.answer()["type"] == "rejected"
        peer.answer("final")
        peer.request("device")
        peer.send_device()
    error = lie("final", act)
    assert error["class"] == "peer" and "pages are missing" in error["desc"]


def test_rejected_pages_come_again(actor):
    """And then all is well."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("final")
        peer.send_frame(spoiled(peer))
        peer.end_pass([1] + [0] * (len(peer.channels) - 1))
        peer.request("final", **peer.args("final"))
        rejected = peer.answer()
        assert (rejected["type"], rejected["runs"], rejected["device"]) == ("rejected", [0, 1], 1)
        peer.answer("final")
        peer.send_frame(peer.pages(0, 0, bytes(actor.part.image[0][:wire.PAGE])))
        peer.end_pass([1] + [0] * (len(peer.channels) - 1))
        peer.request("final", **peer.args("final"))
        peer.answer("final")
        for stage in ("device", "run"):
            peer.do(stage)
        peer.talk.send({"type": "bye"})
        assert receive.wait(PATIENCE).code == 0


def test_change_on_top_of_a_rejected_page(lie):
    """It has nothing to be applied to. In the next pass: within one, nothing says which of the two is placed first."""
    def act(peer):
        for frame in (spoiled, lambda peer: change(peer, b"\x01\x00x\x00")):
            sent = frame(peer)
            peer.send_frame(sent)
            peer.end_pass([1] + [0] * (len(peer.channels) - 1))
            peer.request("final", **peer.args("final"))
            rejected = peer.answer()
            assert (rejected["type"], rejected["device"]) == ("rejected", sent.device), rejected
            peer.answer("final")
        peer.request("device")
    assert "pages are missing" in lie("final", act)["desc"]


# ---- device state, run ----

STATES = {
    "nothing": lambda state: b"",
    "nonsense": lambda state: b"nonsense" * 1000,
    "half": lambda state: state[:len(state) // 2],
    "damaged": lambda state: state[:-40] + bytes(40),
    "one byte less": lambda state: state[:-1],
}


@pytest.mark.parametrize("what", STATES)
def test_device_state_that_is_none(lie, what):
    def act(peer):
        peer.request("device")
        peer.send_device(STATES[what](peer.part.device))
    assert lie("device", act)["class"] in ("vmm", "link", "peer")


def test_nothing_runs_before_run(lie):
    """The device state is loaded and the source says no more, or asks for something else."""
    assert lie("run", lambda peer: peer.talk.send({"type": "bye"}))["class"] == "peer"


def test_run_twice(actor):
    """Once it runs nothing that a peer says ends it."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("bye")
        peer.request("run", running=True)
        wait_until(lambda: not receive.alive(), "receive ends")
    assert receive.guest.qmp.status() == "running"


@pytest.mark.parametrize("running", [False, None, "yes", 1, [True]])
def test_whether_the_guest_ran(actor, running):
    """Anything but `true` is no."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("run")
        peer.request("run", running=running)
        assert peer.answer("run")["running"] is False
        peer.talk.send({"type": "bye"})
        assert receive.wait(PATIENCE).code == 0
    assert receive.guest.qmp.status() == "paused"


def test_the_source_vanishes_before_run(actor):
    """Loaded, and nobody says "run": the guest stays paused, and it is said who decides."""
    receive = actor.receive()
    with Source(receive.port, actor.part) as peer:
        peer.play("run")
    result = receive.wait(PATIENCE)
    assert result.code in (1, 3), result
    assert receive.guest.qmp.status() == "paused"
