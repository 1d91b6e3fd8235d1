# SPDX-License-Identifier: Apache-2.0
"""A source that is none: it connects to `receive`.

What a VMM says of itself and what its device state looks like is no business of the protocol, so the peer learns its
part in a rehearsal: a real `send` of a real guest plays it to peer_destination.Destination, which breaks off at the end.
"""
import os
import socket

from . import wire
from .engine import Engine
from .peer import PATIENCE, Talk, hang_up
from .peer_destination import STAGES, Destination

CHUNK = 128  # pages in a frame


class Part:
    """What a source has to say.

    guest   how it describes its guest
    params  what its user set
    image   RAM: one bytes-like a block
    device  the device state
    """

    def __init__(self, guest, params, image, device):
        self.guest, self.params, self.image, self.device = guest, params, image, device


def rehearse(guest, settings=None):
    """The Part of a guest (stunt or real) that runs on afterwards. Sending must not be under load for the image to be
    small, but it may."""
    sizes = [b.size for b in guest.backends]
    settings = {"compression": "none", "xbzrle-cache-size": 0, **(settings or {})}
    with Destination() as peer, \
            Engine("send", "--qmp", guest.qmp_path, "--to", peer.address, settings=settings) as send:
        peer.serve("device")
        peer.wait(lambda: peer.device.over)
        peer.error("the rehearsal is over")
        result = send.wait(PATIENCE)
        assert result.code == 1 and "the rehearsal is over" in result.stderr, result
        inspect = peer.part["inspect"]
        return Part(inspect["guest"], inspect["params"], peer.image(sizes), bytes(peer.device.data))


class Source:
    """Use as a context manager, or call close(). Nothing is connected before meet().

    talk, channels, device  connections: a Talk, and sockets
    session, secret         of this migration
    number                  the pass that is sent next
    """

    def __init__(self, port, part, channels=2, pings=True, buffer=None):
        self._to = ("127.0.0.1", port)
        self.part, self.count = part, channels
        self.talk, self.channels, self.device = None, [], None
        self.session, self.secret, self.number = wire.SESSION, os.urandom(192), 1
        self._pings, self._buffer = pings, buffer

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Every connection ends at once, as when a process dies."""
        if self.talk:
            self.talk.close()
        for sock in [*self.channels, self.device]:
            if sock:
                hang_up(sock)

    def connect(self, role, channel=0, session=None):
        """(socket, status of the welcome); the socket is closed unless the status is 0."""
        sock = socket.create_connection(self._to, timeout=PATIENCE)
        if self._buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        sock.sendall(wire.hello(role, channel, self.session if session is None else session))
        _, status, session = wire.parse_welcome(wire.read(sock, wire.WELCOME_SIZE))
        if status != wire.WELCOME:
            sock.close()
            return None, status
        sock.settimeout(None)
        if role == wire.CONTROL:
            self.session = session
        return sock, status

    def meet(self):
        sock, status = self.connect(wire.CONTROL, session=wire.SESSION)
        assert status == wire.WELCOME, status
        self.talk = Talk(sock, self._pings)

    def open_channels(self):
        """All RAM channels and the device connection."""
        for i in range(self.count):
            sock, status = self.connect(wire.CHANNEL, i)
            assert status == wire.WELCOME, status
            self.channels.append(sock)
        self.device, status = self.connect(wire.DEVICE)
        assert status == wire.WELCOME, status

    def request(self, stage, **args):
        self.talk.send({"type": "request", "stage": stage, "args": args})

    def answer(self, stage=None, timeout=PATIENCE):
        """The next message that is no `load`: of type "reply" when a stage is named. None when it is over."""
        while True:
            body = self.talk.receive(timeout)
            if body is None or body["type"] != "load":
                assert stage is None or (body and body["type"] == "reply" and body["stage"] == stage), body
                return body

    def args(self, stage):
        """What an honest source asks with."""
        return {
            "inspect": lambda: {"guest": self.part.guest, "params": self.part.params},
            "attach": lambda: {"channels": self.count, "digest-key": self.secret.hex()},
            "iterate": lambda: {"pass": self.number - 1},
            "final": lambda: {"pass": self.number - 1},
            "run": lambda: {"running": True},
        }.get(stage, dict)()

    def play(self, upto):
        """Honest until the stage `upto` would be asked for; "bye": to the end. What a stage sends beside its request
        belongs to it: all RAM to `iterate`, an empty pass to `final`, the device state to `device`."""
        if self.talk is None:
            self.meet()
        for stage in STAGES:
            if stage == upto:
                return
            self.do(stage)
        self.talk.send({"type": "bye"})

    def do(self, stage):
        """One stage, honestly; its reply."""
        if stage == "attach":
            self.open_channels()
        if stage == "iterate":
            self.send_image()
        if stage == "final":
            self.end_pass()
        self.request(stage, **self.args(stage))
        if stage == "device":
            self.send_device()
        return self.answer(stage)

    def send_frame(self, frame, channel=0):
        self.channels[channel].sendall(frame if isinstance(frame, bytes) else frame.pack())

    def end_pass(self, counts=None):
        """Each channel ends the pass; `counts` are the pages that it sent with content."""
        for i in range(len(self.channels)):
            self.send_frame(wire.pass_end(self.number, counts[i] if counts else 0), i)
        self.number += 1

    def send_image(self):
        """One pass with all of RAM that is not zero, over all channels by turns."""
        counts, turn = [0] * len(self.channels), 0
        zeros = bytes(CHUNK * wire.PAGE)
        for block, content in enumerate(self.part.image):
            for at in range(0, len(content), len(zeros)):
                piece = bytes(content[at:at + len(zeros)])
                if piece == zeros[:len(piece)]:
                    continue
                self.send_frame(self.pages(block, at // wire.PAGE, piece), turn)
                counts[turn] += len(piece) // wire.PAGE
                turn = (turn + 1) % len(counts)
        self.end_pass(counts)

    def pages(self, block, first, content, **others):
        """An honest frame of the pass under way."""
        return wire.pages_frame(others.pop("number_", self.number), block, first, content, self.secret, **others)

    def send_device(self, data=None):
        self.device.sendall(self.part.device if data is None else data)
        self.device.shutdown(socket.SHUT_WR)
