# SPDX-License-Identifier: Apache-2.0
"""What a source does until its guest was found to fit is no reason for `receive` to end."""
import pytest

from gwtest.peer_source import Source, rehearse
from gwtest.qemu import MIB
from scene import PATIENCE, wait_until


class Everything:
    """A monitor's rule: nothing is answered any more."""
    hang, does = True, None

    @staticmethod
    def meets(_):
        return True


@pytest.mark.parametrize("word", ["cancelled", "vmm", "system", "timeout"])
def test_it_gives_up_while_its_guest_is_looked_at(make_scene, engine, word):
    """Whatever class it calls its reason, it is a source's and none of ours; and it is heard while the VMM hangs."""
    scene = make_scene(memory=32 * MIB, load=None, fill=5)
    part = rehearse(scene.source)
    there = scene.spare()
    monitor = scene.watch(there)
    receive = scene.receive(there, monitor=monitor)
    monitor.rules.append(Everything)
    with Source(receive.port, part) as peer:
        peer.meet()
        seen = sum(monitor.seen.values())
        peer.request("inspect", **peer.args("inspect"))
        wait_until(lambda: sum(monitor.seen.values()) > seen, "the guest is looked at")
        peer.talk.send({"type": "abort", "class": word, "desc": "never mind"})
        assert receive.wait_event(event="refused", timeout=PATIENCE)["why"] == "the source gave up: never mind"
    monitor.rules.clear()
    with Source(receive.port, part) as peer:
        peer.play("bye")
        assert receive.wait(PATIENCE).code == 0


def test_it_has_no_time_limits_to_give(make_scene, engine):
    """`within` counts behind the stop only: a stranger cannot have a VMM that is slow end the receiver."""
    scene = make_scene(memory=32 * MIB, load=None, fill=5)
    part = rehearse(scene.source)
    receive = scene.receive()
    with Source(receive.port, part) as peer:
        peer.meet()
        peer.talk.send({"type": "request", "stage": "inspect", "within": 0, "args": peer.args("inspect")})
        peer.answer("inspect")
        peer.open_channels()
        peer.talk.send({"type": "request", "stage": "attach", "within": 0, "args": peer.args("attach")})
        peer.answer("attach")
