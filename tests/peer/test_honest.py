# SPDX-License-Identifier: Apache-2.0
"""The scripted peer is a peer: what docs/protocol.md says is enough to receive a guest, and to send one."""
import pytest

from gwtest import oracle
from gwtest.peer_destination import Destination
from gwtest.peer_source import Source, rehearse
from gwtest.qemu import MIB
from scene import PATIENCE


def test_send_to_it(make_scene):
    """What arrives is the guest's RAM, to the byte, and every digest and check was right."""
    scene = make_scene(memory=32 * MIB)
    with Destination() as peer:
        send = scene.send(peer, settings={"xbzrle-cache-size": 0})
        peer.finish(peer.request())
        assert send.wait(PATIENCE).code == 0
        for block, content in zip(scene.source.backends, peer.image([b.size for b in scene.source.backends])):
            with open(block.path, "rb") as file:
                assert file.read() == content
        assert peer.device.data.startswith(b"STUNTDEV")


@pytest.mark.parametrize("channels", [1, 3])
def test_receive_from_it(make_scene, engine, channels):
    """The guest that it plays runs at the destination, which compares RAM with what the device state says of it."""
    scene = make_scene(memory=32 * MIB, load=None)
    part = rehearse(scene.source)
    assert scene.source.qmp.status() == "running"
    receive = scene.receive()
    with Source(receive.port, part, channels) as peer:
        peer.play("bye")
        assert receive.wait(PATIENCE).code == 0
    assert oracle.compare_ram(scene.source, receive.guest) == {}
    assert receive.guest.qmp.status() == "running"
