# SPDX-License-Identifier: Apache-2.0
"""While the guest stands still `receive` answers in the time that the source gives, whatever hangs; and when the guest may
have been handed over it says in that time what is known of it."""
import time

import pytest

from gwtest.peer_source import Source, rehearse
from gwtest.qemu import MIB
from monitor import Rule
from scene import PATIENCE

WITHIN = 1500  # ms
LATE = 1.0     # seconds behind it, on a machine that is busy
ALL = ("query-migrate", "query-status", "migrate-set-capabilities", "migrate-set-parameters")


@pytest.fixture
def played(make_scene, engine):
    """played(stage, *rules): a receiver and a source that has played its part up to the stage."""
    scene = make_scene(memory=32 * MIB, load=None, fill=5)
    part = rehearse(scene.source)
    peers = []

    def play(stage, *rules, **options):
        there = scene.spare()
        monitor = scene.watch(there, *rules)
        receive = scene.receive(there, monitor=monitor, **options)
        receive.monitor = monitor
        peer = Source(receive.port, part)
        peers.append(peer)
        peer.play(stage)
        return receive, peer
    yield play
    for peer in peers:
        peer.close()


def ask(peer, stage, **args):
    """Asks with a time that is given. (the answer, seconds that it took)"""
    peer.talk.send({"type": "request", "stage": stage, "within": WITHIN, "args": {**peer.args(stage), **args}})
    if stage == "device":
        peer.send_device()
    began = time.monotonic()
    return peer.answer(), time.monotonic() - began


def check_in_time(seconds):
    assert WITHIN / 1000 - 0.3 < seconds < WITHIN / 1000 + LATE, seconds


def check_ended(receive, code, status, *words):
    began = time.monotonic()
    received = receive.wait(PATIENCE)
    assert time.monotonic() - began < 3, "it hangs on a VMM that does"
    assert received.code == code and received.report["status"] == status, received
    for word in words:
        assert word in received.stderr, received.stderr
    return received


def hang(*commands, after=None):
    return [Rule(command, nth=0, after=after, hang=True) for command in commands]


def test_the_last_pages_do_not_come(played):
    receive, peer = played("final")
    answer, took = ask(peer, "final", **{"pass": peer.number})
    assert answer["type"] == "error" and answer["class"] == "timeout", answer
    assert "'final' takes longer than the guest may stand still" in answer["desc"]
    check_in_time(took)
    check_ended(receive, 1, "failed", "the guest was not taken over")


def test_its_vmm_hangs_while_it_loads(played):
    receive, peer = played("device", *hang(*ALL, after="migrate-incoming"))
    answer, took = ask(peer, "device")
    assert answer["type"] == "error" and answer["class"] == "timeout", answer
    check_in_time(took)
    check_ended(receive, 1, "failed", "end this VMM and start it anew")


def test_the_source_gives_up_while_its_vmm_hangs(played):
    """No need to wait for the end of the time: the source's word is heard at once."""
    receive, peer = played("device", *hang(*ALL, after="migrate-incoming"))
    peer.talk.send({"type": "request", "stage": "device", "within": 60000, "args": {}})
    receive.wait_event(event="stage", stage="device")
    peer.talk.send({"type": "abort", "class": "cancelled", "desc": "enough"})
    check_ended(receive, 1, "cancelled", "the source gave up: enough")


def test_the_source_says_nothing_more(played):
    """It lives, for it pings; but its time is over."""
    receive, peer = played("device")
    answer, _ = ask(peer, "device")
    assert answer["type"] == "reply"
    began = time.monotonic()
    received = receive.wait(PATIENCE)
    assert time.monotonic() - began < WITHIN / 1000 + LATE
    assert received.code == 3 and received.report["status"] == "in-doubt", received
    assert "has asked for nothing since 'device'" in received.stderr
    assert "taken back at the source only when this VMM has been ended" in received.stderr
    assert receive.guest.qmp.status() == "paused"


def test_cont_is_refused(played):
    """It answers, and so it is certain that the guest does not run: the source may have it back."""
    receive, peer = played("run", Rule("cont", nth=0))
    answer, took = ask(peer, "run")
    assert answer["type"] == "never" and "cont" in answer["desc"], answer
    assert took < WITHIN / 1000 + LATE
    check_ended(receive, 1, "failed", "the guest does not run here and never will; end this VMM")
    assert receive.guest.qmp.status() == "paused"


def test_its_vmm_ends_at_cont(played):
    receive, peer = played("run")
    receive.guest.stop()
    answer, took = ask(peer, "run")
    assert answer["type"] == "never", answer
    assert took < WITHIN / 1000 + LATE
    check_ended(receive, 1, "failed", "never will")


def test_its_vmm_hangs_at_cont(played):
    """Nobody knows, and that is said on both sides."""
    receive, peer = played("run")
    receive.monitor.rules += hang("cont", *ALL)
    answer, took = ask(peer, "run")
    assert answer["type"] == "error" and answer["class"] == "timeout", answer
    check_in_time(took)
    received = check_ended(receive, 3, "in-doubt", "it is not known whether it runs here")
    assert "only then the guest may be taken back at the source" in received.stderr


@pytest.mark.parametrize("message, stage", [
    ({"type": "reply", "stage": "inspect"}, "iterate"), ({"type": "bye"}, "attach"), ({"type": "loaded"}, "device"),
])
def test_what_it_must_not_say(played, message, stage):
    """The type and the stage are in the words."""
    receive, peer = played(stage)
    peer.talk.send(message)
    answer = peer.answer()
    assert answer["type"] in ("error", "never") and f"the source said '{message['type']}'" in answer["desc"], answer
    assert "in the stage '" in answer["desc"]
    receive.wait(PATIENCE)
