# SPDX-License-Identifier: Apache-2.0
"""A destination that is none: `send` connects to it."""
import itertools
import os
import socket
import threading

from . import wire
from .peer import PATIENCE, Talk, hang_up

# In order; those of them that come again and again.
STAGES = ["inspect", "attach", "iterate", "stop", "final", "device", "run"]
REPEATED = ("iterate", "final")


class Channel:
    """A connection that carries RAM or the device state; a thread reads it.

    frames  of a RAM channel
    data    of the device connection
    over    whether the other one has ended it
    """

    def __init__(self, peer, sock, raw):
        self.sock, self._peer, self._raw = sock, peer, raw
        self.frames, self.data, self.over = [], bytearray(), False
        threading.Thread(target=self._read, name="peer", daemon=True).start()

    def _read(self):
        try:
            while True:
                self._peer.gate.wait()
                if self._raw:
                    self._take_raw()
                else:
                    self.frames.append(wire.read_frame(self.sock))
                self._peer.changed()
        except (wire.Ended, OSError):
            self.over = True
            self._peer.changed()

    def _take_raw(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise wire.Ended()
        self.data += data

    def ended(self, number):
        """Whether all of pass `number` has come."""
        return any(f.kind == wire.PASS_END and f.number >= number for f in self.frames)


class Destination:
    """Use as a context manager, or call close().

    address   for `send --to`
    talk      the control connection, once it is there
    channels  RAM channels, in the order in which they came
    device    the device connection
    part      args of the requests that came last, by stage
    """

    def __init__(self, buffer=None, pings=True, welcome=wire.welcome, params=None):
        """
        buffer   bytes that the kernel takes of each connection, roughly
        welcome  what answers a hello
        params   values that the destination's answer to `inspect` names: by default those that make frames easy to read
        """
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.address = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self.talk, self.device, self.channels, self.part = None, None, [], {}
        self.session = os.urandom(16)
        self.params = {"compression": "none"} if params is None else params
        self.gate = threading.Event()  # channels are read while it is set
        self.gate.set()
        self._pings, self._welcome = pings, welcome
        self._changes = threading.Condition()
        self._closed = False
        threading.Thread(target=self._accept, name="peer", daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            try:
                self._let_in(sock)
            except (wire.Ended, OSError):
                sock.close()

    def _let_in(self, sock):
        sock.settimeout(PATIENCE)
        _, role, _, session = wire.parse_hello(wire.read(sock, wire.HELLO_SIZE))
        sock.settimeout(None)
        sock.sendall(self._welcome(session=self.session))
        if role == wire.CONTROL:
            self.talk = Talk(sock, self._pings)
        else:
            assert session == self.session, "the source does not say its session"
            channel = Channel(self, sock, role == wire.DEVICE)
            if role == wire.DEVICE:
                self.device = channel
            else:
                self.channels.append(channel)
        self.changed()

    def changed(self):
        with self._changes:
            self._changes.notify_all()

    def wait(self, condition, timeout=PATIENCE):
        """Until condition() is true, looked at whenever something came."""
        with self._changes:
            assert self._changes.wait_for(condition, timeout), "what was waited for never came"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Every connection ends at once, as when a process dies."""
        self._listener.close()
        self.gate.set()
        if self.talk:
            self.talk.close()
        for channel in [*self.channels, self.device]:
            if channel:
                hang_up(channel.sock)

    def request(self, stage=None, timeout=PATIENCE):
        """The next request; of that stage, if one is named."""
        self.wait(lambda: self.talk is not None, timeout)
        body = self.talk.receive(timeout)
        assert body is not None, f"the source has gone before '{stage}': {self.talk.heard[-2:]}"
        assert body["type"] == "request" and body["stage"] in ([stage] if stage else STAGES), body
        self.part[body["stage"]] = body["args"]
        return body

    def reply(self, stage, **members):
        self.talk.send({"type": "reply", "stage": stage, **members})

    def error(self, desc="a lie", class_="peer"):
        self.talk.send({"type": "error", "class": class_, "desc": desc})

    def serve(self, upto, timeout=PATIENCE):
        """Honest until the source asks for the stage `upto` for the first time; returns that request, not answered."""
        while True:
            body = self.request(timeout=timeout)
            if body["stage"] == upto:
                return body
            self.answer(body)

    def answer(self, body, **members):
        """Does honestly what a request asks for, and replies."""
        getattr(self, "_" + body["stage"])(body["args"], members)
        self.reply(body["stage"], **members)

    def finish(self, body):
        """Honest from this request on, to the end. Returns when the source has said goodbye."""
        while True:
            self.answer(body)
            if body["stage"] == "run":
                break
            body = self.request()
        assert self.talk.receive() == {"type": "bye"}

    def finish_until_over(self, timeout=PATIENCE):
        """Honest as long as the source asks for something. Returns what it said instead, or None."""
        self.wait(lambda: self.talk is not None, timeout)
        while (body := self.talk.receive(timeout)) is not None and body["type"] == "request":
            self.part[body["stage"]] = body["args"]
            self.answer(body)
        return body

    def _inspect(self, _, members):
        members.setdefault("params", self.params)
        members.setdefault("limits", {})

    def _attach(self, args, _):
        self.wait(lambda: len(self.channels) == args["channels"] and self.device)
        assert len(self.secret) == 192

    def _iterate(self, args, _):
        self.wait(lambda: all(c.ended(args["pass"]) for c in self.channels))

    _final = _iterate

    def _stop(self, _, __):
        pass

    def _device(self, _, __):
        self.wait(lambda: self.device.over)

    def _run(self, args, members):
        members.setdefault("running", args["running"])

    @property
    def secret(self):
        return bytes.fromhex(self.part["attach"]["digest-key"])

    def frames(self):
        """All that came, by passes."""
        return sorted(itertools.chain(*(c.frames for c in self.channels)), key=lambda f: f.number)

    def image(self, sizes):
        """RAM as it arrived, every digest checked: a bytearray for each of the sizes (bytes)."""
        blocks = [bytearray(size) for size in sizes]
        for frame in self.frames():
            if frame.kind == wire.PAGES:
                assert frame.codec == wire.NONE, "compressed though we had asked for none"
                assert frame.digest == wire.digest(frame.payload, self.secret), "a wrong digest"
            elif frame.kind != wire.ZERO:
                assert frame.kind == wire.PASS_END, "a change though we had asked for none"
                continue
            at = 0
            for first, count in frame.runs:
                size = count * wire.PAGE
                blocks[frame.block][first * wire.PAGE:first * wire.PAGE + size] = \
                    frame.payload[at:at + size] if frame.kind == wire.PAGES else bytes(size)
                at += size
        return blocks
