# SPDX-License-Identifier: Apache-2.0
"""Two relays in the way of QEMU's own migrations, and what they say to each other as bytes (from docs/protocol.md)."""
import contextlib
import os
import socket
import struct
import threading
import time

from . import engine as gw, places, wire

ROLE = 6
OPEN, OPENED, DATA, END, ALIVE, ABORT = range(1, 7)
MAGIC = b"gry\x01"
HEADER_SIZE = 48
_HEADER = struct.Struct("<4sIIIQQQ")


class Relay(gw.Engine):
    """One of them. `directory` is for its events."""

    def __init__(self, directory, name, *args, netns=None, fault=None):
        events = os.path.join(directory, name + ".events")
        super().__init__("relay", *args, "--events", events, "-v", netns=netns, fault=fault, machine=False)
        self.events_path = events

    def _file(self, name):
        return self.events_path if name == "events" else super()._file(name)

    def ends(self):
        """Events of migrations that have ended."""
        return [e for e in self.events() if e["event"] == "ended"]

    def closed(self):
        """Events of connections that have ended."""
        return [e for e in self.events() if e["event"] == "closed"]

    def told(self):
        """What it has said to people so far."""
        return self._read("stderr")


class Pair:
    """A relay on each side, one QEMU to be delivered to. Use as a context manager, or call close().

    out         where the source's QEMU migrates to, a URI of QEMU's
    into        where the destination's QEMU waits, likewise
    tcp         it waits at a TCP port, not at a unix socket
    through     through(port) is the port of something that stands between the relays and connects to that one
    """

    def __init__(self, directory, hosts=None, tcp=False, through=None, silence=10, source_fault=None, destination_fault=None):
        self.out, self.into = (f"unix:{os.path.join(directory, name)}" for name in ("relay.out", "relay.in"))
        self.into = f"tcp:127.0.0.1:{gw.next_port()}" if tcp else self.into
        here, there = (hosts.a, hosts.b) if hosts else (None, None)
        address, port = there.address if there else "127.0.0.1", gw.next_port()
        with contextlib.ExitStack() as stack:
            self.destination = stack.enter_context(Relay(
                directory, "destination", "--listen", f"tcp:{address}:{port}", "--deliver", self.into, "--silence",
                silence, netns=there and there.netns, fault=destination_fault))
            self.destination.wait_event(event="listening")
            self.source = stack.enter_context(Relay(
                directory, "source", "--from", self.out, "--to", f"tcp:{address}:{through(port) if through else port}",
                "--silence", silence, netns=here and here.netns, fault=source_fault))
            self.source.wait_event(event="listening")
            self._stack = stack.pop_all()
        self.port = port

    def wait_ended(self, count=1, timeout=places.patience(30)):
        """Both have said of so many migrations that they ended; the events of the last one."""
        deadline = time.monotonic() + timeout
        while True:
            ends = self.source.ends(), self.destination.ends()
            if all(len(e) >= count for e in ends):
                return ends[0][-1], ends[1][-1]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{ends} {self.source.told()} {self.destination.told()}")
            time.sleep(0.02)

    def close(self):
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Between:
    """Stands between the relays; carries everything until it is told not to. Use as a context manager."""

    def __init__(self):
        self._there = None
        self._open = []
        self._flip_at = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.carried = 0  # bytes from the one who connected, on all connections

    def through(self, port):
        """For Pair."""
        self._there = port
        threading.Thread(target=self._accept, daemon=True).start()
        return self._listener.getsockname()[1]

    def flip(self, at):
        """A bit changes at that byte, counted as `carried`."""
        self._flip_at = at

    def cut(self):
        """Both see their connections end."""
        for s in self._open:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._there))
                self._open += [client, server]
                threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, one, other, counts):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if counts:
                    at, self.carried = self.carried, self.carried + len(data)
                    if self._flip_at is not None and at <= self._flip_at < self.carried:
                        data = bytearray(data)
                        data[self._flip_at - at] ^= 1
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.close()
        self.cut()
        for s in self._open:
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def digest(data):
    """As a packet has it: two numbers."""
    value = wire.xxh128(data)
    return value.low, value.high


def packet(kind, payload=b"", stream=b"", **lies):
    """A packet; `stream` is all of its direction's stream to its end. Of `lies`: size, position, digest, check."""
    low, high = lies.get("digest") or digest(stream)
    head = _HEADER.pack(MAGIC, kind, lies.get("size", len(payload)), 0, lies.get("position", len(stream)), low, high)
    return head + struct.pack("<Q", lies.get("check") or wire.xxh64(head)) + payload


def read_packet(sock):
    """(kind, payload); the check is checked. Raises wire.Ended."""
    head = wire.read(sock, HEADER_SIZE)
    magic, kind, size, zero, _, _, _ = _HEADER.unpack(head[:-8])
    assert (magic, zero) == (MAGIC, 0) and struct.unpack("<Q", head[-8:])[0] == wire.xxh64(head[:-8]), head
    return kind, wire.read(sock, size) if size else b""


def hello(number=0, session=b"s" * 16, **others):
    return wire.hello(**{"role": ROLE, "channel": number, "session": session, **others})


def connect(port, wanted="", number=0, session=b"s" * 16):
    """A source's relay's connection as far as its OPEN, and the answer: (socket, kind, payload)."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=places.patience(20))
    sock.sendall(hello(number, session) + packet(OPEN, wanted.encode()))
    assert wire.parse_welcome(wire.read(sock, wire.WELCOME_SIZE)) == (wire.VERSION, wire.WELCOME, session)
    return (sock, *read_packet(sock))
