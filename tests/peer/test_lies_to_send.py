# SPDX-License-Identifier: Apache-2.0
"""What a destination says that it must not say: `send` ends with a sentence, and the guest runs on at the source."""
import struct
import time

import pytest

from gwtest import wire
from gwtest.peer import hang_up
from gwtest.peer_destination import STAGES, Destination
from gwtest.qemu import MIB
from scene import PATIENCE

OURS = STAGES[:-1]  # up to `run` the guest is the source's
JUNK = "x" * (332 << 10)


@pytest.fixture
def lie(make_scene):
    """lie(stage, act): an honest destination until the source asks for `stage`; then act(peer, request). The source's
    error, after the guest was seen to run on."""
    scene = make_scene(memory=32 * MIB, fill=30, load="uniform,rate=4M")

    def play(stage, act, settings=None, timeout=PATIENCE, **options):
        with Destination(**options) as peer:
            send = scene.send(peer, settings=settings)
            act(peer, peer.serve(stage))
            sent = send.wait(timeout)
        assert sent.code == 1 and "runs on at the source" in sent.stderr, sent
        scene.check_runs_on()
        return sent.report["error"]
    play.scene = scene
    return play


def quiet(_, __):
    """Says nothing more than that it lives."""


@pytest.mark.parametrize("stage", OURS)
def test_a_reply_to_another_stage(lie, stage):
    other = STAGES[OURS.index(stage) - 1]
    assert "another stage" in lie(stage, lambda peer, _: peer.reply(other, running=True))["desc"]


@pytest.mark.parametrize("stage", OURS[:-1])
def test_a_second_reply(lie, stage):
    """It would be taken for the answer to what is asked next."""
    def act(peer, request):
        peer.answer(request)
        peer.reply(stage)
    assert lie(stage, act)["class"] == "peer"


@pytest.mark.parametrize("stage", ["attach", "final"])
def test_two_replies_at_once(lie, stage):
    def act(peer, _):
        text = wire.message({"type": "reply", "stage": stage})
        peer.talk.send_bytes(text + text)
    assert lie(stage, act)["class"] == "peer"


WORDS = {
    "no type": {"stage": "inspect"},
    "a type that is none": {"type": "nonsense"},
    "a type that is no text": {"type": ["reply"]},
    "a type that is nothing": {"type": None},
    "a message of sources": {"type": "request", "stage": "inspect", "args": {}},
    "an abort": {"type": "abort", "class": "peer", "desc": "x"},
    "a goodbye": {"type": "bye"},
    "a reply without a stage": {"type": "reply"},
    "a reply to a number": {"type": "reply", "stage": 7},
    "an array": b"[1, 2]",
    "a text": b'"reply"',
    "nothing at all": b"",
    "not JSON": b"{nonsense}",
    "half of an object": b'{"type": "reply", "stage": "in',
    "a member twice": b'{"type": "reply", "type": "reply", "stage": "DUE"}',  # right but for that
    "no UTF-8": b'{"type": "\xff\xfe"}',
    "a zero in a text": b'{"type": "rep\\u0000ly"}',
    "a deep array": b'{"type": ' + b"[" * 100000 + b"]" * 100000 + b"}",
}


@pytest.mark.parametrize("what", WORDS)
@pytest.mark.parametrize("stage", ["inspect", "final"])
def test_words_that_it_must_not_say(lie, stage, what):
    text = WORDS[what].replace(b"DUE", stage.encode()) if isinstance(WORDS[what], bytes) else WORDS[what]
    assert lie(stage, lambda peer, _: peer.talk.send(text))["class"] == "peer"


@pytest.mark.parametrize("size", [wire.LONGEST_MESSAGE + 1, 1 << 31, 0xffffffff])
def test_a_message_too_long(lie, size):
    """Announced; nobody has memory for it, or waits for it."""
    error = lie("iterate", lambda peer, _: peer.talk.send_bytes(struct.pack("<I", size)))
    assert error["class"] == "peer" and str(size) in error["desc"]


@pytest.mark.parametrize("stage", ["attach", "device"])
@pytest.mark.parametrize("text", [b"\x40", b"\x40\0\0\0", b"\x40\0\0\0{\"type\":"])
def test_half_a_message_then_nothing(lie, stage, text):
    """It says that it lives, and yet does not."""
    def act(peer, _):
        peer.talk.mute()
        peer.talk.send_bytes(text)
    began = time.monotonic()
    assert lie(stage, act, settings={"link-timeout": 2})["class"] == "link"
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("class_", ["nonsense", "", None, 5, "cancelled", "in-doubt"])
def test_an_error_of_any_class(lie, class_):
    """Whatever it calls it, the migration ends and its words are passed on."""
    def act(peer, _):
        peer.talk.send({"type": "error", "class": class_, "desc": "it is Tuesday"})
    assert "it is Tuesday" in lie("final", act)["desc"]


@pytest.mark.parametrize("desc", [None, 17, {"a": 1}, "two\nlines\x1b[31m"])
def test_an_error_without_a_sentence(lie, desc):
    error = lie("attach", lambda peer, _: peer.talk.send({"type": "error", "class": "vmm", "desc": desc}))
    assert "destination: " in error["desc"] and "\n" not in error["desc"] and "\x1b" not in error["desc"]


LOADS = [
    {}, {"read": "fast"}, {"read": -1, "place": -5}, {"read": 1e308, "place": 1e308, "lz4": 1e308, "zstd": 1e-320},
    {"threads": 0}, {"threads": -3}, {"threads": 1e300}, {"threads": [1]}, {"read": 0, "place": 0, "deflate": 0},
    {"lz4": None, "zstd": True, "deflate": {"a": []}}, {"read": 1 << 62, "threads": 1 << 62},
]


def test_any_load(lie):
    """What receiving is said to cost decides which codec is taken and no more than that."""
    with Destination(params={}) as peer:
        send = lie.scene.send(peer, settings={"compression": "auto"})
        request = peer.serve("iterate")
        for load in LOADS:
            peer.talk.send({"type": "load", **load})
        peer.finish(request)
        assert send.wait(PATIENCE).code == 0


PARAMS = {
    "nothing": None,
    "a list": [1],
    "a name that is none": {"compresion": "none"},
    "a word that is none": {"compression": "rar"},
    "a number too large": {"channels": 65},
    "a number below": {"pages-per-batch": 0},
    "another type": {"downtime-limit": [300]},
    "a very long name": {"x" * 1000: 1},
}


@pytest.mark.parametrize("what", PARAMS)
@pytest.mark.parametrize("member", ["params", "limits"])
def test_params_that_cannot_be(lie, member, what):
    def act(peer, _):
        peer.reply("inspect", **{"params": {}, "limits": {}, member: PARAMS[what]})
    error = lie("inspect", act)
    assert len(error["desc"]) < 400


REJECTIONS = {
    "no runs": {"block": 0, "runs": [], "device": 1},
    "half a run": {"block": 0, "runs": [0], "device": 1},
    "another block": {"block": 1, "runs": [0, 1], "device": 1},
    "block -1": {"block": -1, "runs": [0, 1], "device": 1},
    "behind the end": {"block": 0, "runs": [8191, 2], "device": 1},
    "far behind the end": {"block": 0, "runs": [1 << 62, 1 << 62], "device": 1},
    "before the beginning": {"block": 0, "runs": [-1, 1], "device": 1},
    "no page": {"block": 0, "runs": [0, 0], "device": 1},
    "less than no page": {"block": 0, "runs": [5, -5], "device": 1},
    "one page twice": {"block": 0, "runs": [4, 2, 5, 1], "device": 1},
    "descending": {"block": 0, "runs": [9, 1, 3, 1], "device": 1},
    "more than a batch": {"block": 0, "runs": [0, 1025], "device": 1},
    "no list": {"block": 0, "runs": "all", "device": 1},
    "texts": {"block": "0", "runs": ["0", "1"], "device": 1},
    "no block": {"runs": [0, 1], "device": 1},
}


@pytest.mark.parametrize("what", REJECTIONS)
def test_a_rejection_that_cannot_be(lie, what):
    def act(peer, _):
        peer.talk.send({"type": "rejected", **REJECTIONS[what]})
    assert lie("iterate", act)["class"] == "peer"


@pytest.mark.parametrize("stage", ["inspect", "device"])
def test_a_rejection_at_the_wrong_time(lie, stage):
    """Before there was a page, and when the last ones were said to be in place."""
    def act(peer, request):
        peer.talk.send({"type": "rejected", "block": 0, "runs": [0, 1], "device": 0})
        peer.answer(request)
    assert lie(stage, act)["class"] == "peer"


@pytest.mark.parametrize("device", [77, -1, 1 << 40, "x", None])
def test_a_rejection_of_any_device(lie, device):
    """Which accelerator is to blame is nothing to go by: the page is sent again."""
    with Destination() as peer:
        send = lie.scene.send(peer)
        request = peer.serve("iterate")
        peer.talk.send({"type": "rejected", "block": 0, "runs": [0, 1], "device": device})
        peer.finish(request)
        assert send.wait(PATIENCE).code == 0


def test_the_last_pages_are_rejected_without_end(lie):
    """The guest stands still: the source does not go on sending for ever."""
    def act(peer, request):
        while request is not None and request["type"] == "request":
            assert request["stage"] == "final"
            peer.wait(lambda: all(c.ended(request["args"]["pass"]) for c in peer.channels))
            peer.talk.send({"type": "rejected", "block": 0, "runs": [0, 4], "device": 0})
            peer.reply("final")
            request = peer.talk.receive()
    assert "does not accept" in lie("final", act)["desc"]


@pytest.mark.parametrize("stage", OURS)
@pytest.mark.parametrize("all_", [False, True])
def test_the_control_connection_is_closed(lie, stage, all_):
    """Whenever that is, alone or with all others: the migration ends at once."""
    def act(peer, _):
        if all_:
            peer.close()
        else:
            peer.talk.close()
    began = time.monotonic()
    assert lie(stage, act, settings={"link-timeout": 30})["class"] == "link"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("which, stage", [("ram", "attach"), ("device", "stop")])
def test_a_connection_is_closed(lie, which, stage):
    """One into which something is still to be sent."""
    def act(peer, _):
        peer.reply(stage)
        hang_up((peer.device if which == "device" else peer.channels[-1]).sock)
        if which == "device" and (request := peer.talk.receive()) and request["type"] == "request":
            peer.answer(request)  # QEMU's header went before the end of the connection: the state itself comes behind `final`
    began = time.monotonic()
    assert lie(stage, act, settings={"link-timeout": 30, "stop-limit": 0})["class"] == "link"
    assert time.monotonic() - began < 10


WELCOMES = {
    "a mail server": lambda session: b"220 mail.example.org ESMTP, ready for you at any time\r\n",
    "another magic": lambda session: b"\x89godwj\r\n" + wire.welcome(session=session)[8:],
    "another version": lambda session: wire.welcome(wire.OTHER_VERSION, session, version=99),
    "busy": lambda session: wire.welcome(wire.BUSY),
    "no such session": lambda session: wire.welcome(wire.NO_SESSION),
    "a status that is none": lambda session: wire.welcome(77, session),
}


@pytest.mark.parametrize("what", WELCOMES)
def test_a_welcome_that_is_none(lie, what):
    with Destination(welcome=WELCOMES[what]) as peer:
        sent = lie.scene.send(peer).wait(PATIENCE)
        assert sent.code == 1 and sent.report["error"]["desc"], sent
    lie.scene.check_runs_on()


def test_other_words_for_ram_channels(lie):
    """The control connection was welcome, the others are not."""
    with Destination() as peer:
        send = lie.scene.send(peer)
        request = peer.request("inspect")
        peer._welcome = lambda session: wire.welcome(wire.NO_SESSION)
        peer.answer(request)
        sent = send.wait(PATIENCE)
        assert sent.code == 1, sent
    lie.scene.check_runs_on()


@pytest.mark.parametrize("stage", ["attach", "device"])
def test_never_before_it_was_asked(lie, stage):
    """A word about the hand-over means nothing before it."""
    error = lie(stage, lambda peer, _: peer.talk.send({"type": "never", "class": "vmm", "desc": "x"}))
    assert error["class"] == "peer"


def test_never(lie):
    """The destination has it on record that the guest never runs there: only then it runs here again."""
    error = lie("run", lambda peer, _: peer.talk.send({"type": "never", "class": "vmm", "desc": "'cont' was refused"}))
    assert "'cont' was refused" in error["desc"]


AFTER = {
    "an error": lambda peer: peer.error("it did not start"),
    "an end": lambda peer: peer.close(),
    "another stage": lambda peer: peer.reply("device"),
    "nonsense": lambda peer: peer.talk.send({"type": "nonsense"}),
}


@pytest.mark.parametrize("what", AFTER)
def test_lies_after_the_hand_over(lie, what):
    """Then nobody guesses: the guest stays stopped here, and that is said."""
    with Destination() as peer:
        send = lie.scene.send(peer)
        peer.serve("run")
        AFTER[what](peer)
        sent = send.wait(PATIENCE)
    assert sent.code == 3 and sent.report["status"] == "in-doubt", sent
    assert not lie.scene.source.qmp.execute("query-status")["running"]


@pytest.mark.parametrize("running", [True, False, None, "yes", 1])
def test_whether_it_runs(lie, running):
    """Anything but `true` is no: then no pause is reported, which would be a lie."""
    with Destination() as peer:
        send = lie.scene.send(peer)
        peer.answer(peer.serve("run"), running=running)
        assert peer.talk.receive() == {"type": "bye"}
        sent = send.wait(PATIENCE)
    assert sent.code == 0 and ("downtime" in sent.report) == (running is True), sent
