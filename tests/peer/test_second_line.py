# SPDX-License-Identifier: Apache-2.0
"""Checks that nothing reaches when both sides are right, and events in the middle that make them count."""
import signal
import time

import pytest

from gwtest import wire
from gwtest.peer_destination import Destination
from gwtest.qemu import MIB
from scene import PATIENCE

FOR_EVER = {"stop-limit": 0, "link-timeout": 30}  # no deadline but those that are meant here
LARGE = {"compression": "none", "xbzrle-cache-size": 0}  # the last pages do not fit into sockets' buffers


@pytest.mark.parametrize("stage", ["final", "device"])
def test_silence_while_the_guest_stands_still(make_scene, stage):
    """It is not waited out for as long as else: 3 s instead of `link-timeout`."""
    scene = make_scene(memory=32 * MIB)
    with Destination() as peer:
        send = scene.send(peer, settings=FOR_EVER)
        peer.serve(stage)
        peer.talk.mute()
        began = time.monotonic()
        error = scene.check_failed_alone(send)
        assert "silent for 3 s" in error["desc"] and time.monotonic() - began < 10
    scene.check_runs_on()


def test_a_peer_that_takes_nothing(make_scene):
    """It lives, and says so; it does not take the last pages: 5 s."""
    scene = make_scene(memory=64 * MIB, fill=90, load="uniform,rate=800M")
    with Destination(buffer=65536) as peer:
        # held for a moment, so that the guest has written more than sockets take
        send = scene.send(peer, settings={**FOR_EVER, **LARGE, "downtime-limit": 1000000}, fault="hold@stop=500")
        request = peer.serve("stop")
        peer.gate.clear()
        peer.answer(request)
        began = time.monotonic()
        error = scene.check_failed_alone(send)
        assert error["class"] == "link" and 4 < time.monotonic() - began < 12, error
    scene.check_runs_on()


def test_device_state_that_nobody_takes(make_scene):
    """The network is cut while the device state is under way: that connection ends with the link."""
    scene = make_scene(memory=32 * MIB, options=("--device-bytes", 64 << 20))
    with Destination(buffer=65536) as peer:
        send = scene.send(peer, settings=FOR_EVER)
        request = peer.serve("final")
        peer.wait(lambda: all(c.ended(request["args"]["pass"]) for c in peer.channels))
        peer.gate.clear()
        peer.reply("final")
        peer.request("device")
        peer.talk.mute()
        began = time.monotonic()
        scene.check_failed_alone(send)
        assert time.monotonic() - began < 10
    scene.check_runs_on()


def test_cancelled_in_the_last_moment(make_scene):
    """The device state is loaded, the guest not handed over yet, and nobody has listened for a while."""
    scene = make_scene(memory=32 * MIB)
    with Destination() as peer:
        send = scene.send(peer, fault="deaf@hand-over=800", settings=FOR_EVER)
        peer.answer(peer.serve("device"))
        send.wait_event(event="stage", stage="hand-over")
        send.signal(signal.SIGTERM)
        error = scene.check_failed_alone(send)
        assert error["class"] == "cancelled"
        assert [m["type"] for m in peer.talk.wait_over()] == ["abort"]
    scene.check_runs_on()


def test_pages_that_the_last_pass_forgot(make_scene):
    """Only the count of dirty pages tells: no device state is let through."""
    scene = make_scene(memory=32 * MIB)
    with Destination() as peer:
        send = scene.send(peer, fault="leave-page")
        peer.finish_until_over()
        error = scene.check_failed_alone(send)
        assert "left pages behind" in error["desc"]
        assert "device" not in peer.part
    scene.check_runs_on()


@pytest.mark.parametrize("before, command, runs", [(None, "stop", False), ("stop", "cont", True)])
def test_what_its_operator_did_before_it_failed(make_real, before, command, runs):
    """A guest that was stopped meanwhile is not let run by what puts it back, and the other way round."""
    scene = make_real()
    if before:
        scene.source.qmp.execute(before)
    with Destination() as peer:
        send = scene.send(peer)
        request = peer.serve("stop")
        scene.source.qmp.execute(command)
        peer.answer(request)
        peer.serve("device")
        peer.error("it was not to be")
        assert send.wait(PATIENCE).code == 1
    assert scene.source.qmp.execute("query-status")["running"] == runs


def test_ram_that_was_plugged_meanwhile(make_real, shm):
    """Nobody looks after it: its writes would be lost."""
    scene = make_real()
    with Destination() as peer:
        send = scene.send(peer)
        request = peer.serve("stop")
        scene.source.qmp.execute("object-add", {"qom-type": "memory-backend-file", "id": "more", "size": 32 * MIB,
                                                "mem-path": f"{shm}/more", "share": True})
        peer.answer(request)
        peer.finish_until_over()
        error = scene.check_failed_alone(send)
        assert "RAM (more) was plugged into the guest meanwhile" in error["desc"] and "device" not in peer.part
    assert scene.source.qmp.status() == "running"


def test_a_vmm_that_sends_ram_itself(make_scene):
    """It counts so much as its own that it must be the guest's."""
    scene = make_scene(memory=16 * MIB)
    migration = scene.migrate(scene.spare())
    assert "16 MiB of RAM itself" in scene.check_failed(migration)["desc"]
    scene.check_runs_on()


# ---- memory ----

JUNK = "x" * (332 << 10)
ENOUGH = 200 << 20  # bytes; what an honest peer makes it take is a fifth of that


def most_memory(engine):
    """The largest that its resident set ever was, in bytes."""
    with open(f"/proc/{engine.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


FLOODS = {
    "rejections with junk": ({"type": "rejected", "block": 0, "runs": [0, 1], "device": 0, "junk": JUNK}, 400),
    "many rejections": ({"type": "rejected", "block": 0, "runs": [0, 1], "device": 0}, 4096),
    "rejections of many runs": ({"type": "rejected", "block": 0, "device": 0,
                                 "runs": [n for i in range(512) for n in (2 * i, 1)]}, 1500),
    "loads with junk": ({"type": "load", "read": 1.0, "junk": JUNK}, 400),
    "pings with junk": ({"type": "ping", "junk": JUNK}, 400),
}


@pytest.mark.parametrize("what", FLOODS)
def test_send_is_flooded(make_scene, what):
    """Whatever a destination says, as often as it likes: it is refused, or costs nothing that lasts."""
    body, times = FLOODS[what]
    scene = make_scene(memory=32 * MIB, fill=10)
    with Destination() as peer:
        send = scene.send(peer)
        peer.serve("iterate")
        text = wire.message(body)
        try:
            for _ in range(times):
                peer.talk.send_bytes(text)
                most = most_memory(send)
        except (OSError, StopIteration):
            pass  # it has had enough
        assert most < ENOUGH
        peer.close()
        assert send.wait(PATIENCE).code == 1
    scene.check_runs_on()
