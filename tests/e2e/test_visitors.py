# SPDX-License-Identifier: Apache-2.0
"""Whoever connects to the port is refused in one line, and the receiver keeps waiting for the one it serves."""
import contextlib
import errno
import json
import socket
import struct
import threading
import time

import pytest

from gwtest import engine as gw, oracle, wire
from gwtest.qemu import MIB

MAGIC = b"\x89godwi\r\n"


def hello(version=wire.VERSION, role=1, channel=0, session=bytes(16)):
    return struct.pack("<8sHBxHxx16s8x", MAGIC, version, role, channel, session)


def answer(client):
    """The welcome's status, or None when there was none."""
    data = b""
    while len(data) < 32:
        more = client.recv(32 - len(data))
        if not more:
            return None
        data += more
    return data[10]


def say(client, text):
    """Sends, says no more, and returns the welcome's status; None when there was none (a reset included)."""
    try:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        return answer(client)
    except (ConnectionResetError, BrokenPipeError):
        return None
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # shutdown() behind a reset
            raise
        return None


VISITORS = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None, "HTTP"),
    "garbage": (bytes(range(200, 256)), None, "not a godwit"),
    "one wrong byte": (MAGIC[:7] + b"x" + bytes(40), None, "not a godwit"),
    "another version": (hello(version=2), 1, "protocol 2"),
    "version 0": (hello(version=0), 1, "protocol 0"),
    "a channel of no migration": (hello(role=2), 3, "does not belong"),
    "a device of no migration": (hello(role=3), 3, "does not belong"),
    "a role that is none": (hello(role=77), 3, "does not belong"),
    "half a hello": (hello()[:17], None, "without a hello"),
    "nothing": (b"", None, "without a hello"),
}


def connect(migration_or_port):
    return socket.create_connection(("127.0.0.1", migration_or_port), timeout=10)


@contextlib.contextmanager
def waiting(there):
    """(a receiver that listens, its port)"""
    port = next(gw._ports)
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}") as receive:
        receive.wait_listening(port)
        yield receive, port


def serves(source, receive, port):
    """The migration that comes now gets through."""
    with gw.Engine("send", "--qmp", source.qmp_path, "--to", f"tcp:127.0.0.1:{port}") as send:
        assert send.wait().code == 0
    assert receive.wait().code == 0


def refusals(receive):
    return [e["why"] for e in receive.events() if e["event"] == "refused"]


def test_visitors_are_refused_and_the_migration_works(make_stunt, engine):
    source = make_stunt(name="src", memory=32 * MIB)
    there = make_stunt.destination(source)
    port = next(gw._ports)
    receive = gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}",
                        settings={"autostart": "off"})
    with receive:
        receive.wait_listening(port)
        for name, (text, status, why) in VISITORS.items():
            with connect(port) as client:
                assert say(client, text) == status, name
            event = receive.wait_event(event="refused")
            assert why in event["why"], name
        silent = [connect(port) for _ in range(3)]  # half open: they say nothing and stay
        with gw.Engine("send", "--qmp", source.qmp_path, "--to", f"tcp:127.0.0.1:{port}") as send:
            assert send.wait().code == 0
        result = receive.wait()
        for client in silent:
            client.close()
    assert result.code == 0
    assert oracle.compare_ram(source, there) == {}
    lines = [line for line in result.stderr.splitlines() if "refused" in line]
    assert len(lines) == len(VISITORS)


def test_a_silent_client_is_sent_away(make_stunt, engine):
    there = make_stunt.destination(make_stunt(name="src", memory=32 * MIB))
    with waiting(there) as (receive, port):
        with connect(port):
            assert "no hello within" in receive.wait_event(event="refused", timeout=15)["why"]
        with connect(port) as one:
            one.sendall(hello()[:8])
            assert "no hello within" in receive.wait_event(event="refused", timeout=15)["why"]
        assert receive.alive()


def test_a_second_source_is_told_to_go(make_stunt, engine):
    """While one migration is under way, another godwit, a stray channel and a browser disturb nothing."""
    source = make_stunt(name="src", memory=64 * MIB, fill=90, load="uniform,rate=1M")
    other = make_stunt(name="other", memory=64 * MIB)
    there = make_stunt.destination(source)
    settings = {"autostart": "off", "max-bandwidth": "40M", "compression": "none"}
    with gw.Migration(source, there, settings=settings) as migration:
        migration.send.wait_event(event="stage", stage="ram-full")
        with gw.Engine("send", "--qmp", other.qmp_path, "--to", migration.address) as second:
            result = second.wait()
        assert result.code == 1 and "busy" in result.stderr
        for text in (hello(role=2), hello(role=3), b"GET / HTTP/1.0\r\n\r\n"):
            with connect(migration.port) as client:
                client.sendall(text)
                migration.receive.wait_event(event="refused")
        migration.complete()
    assert oracle.compare_ram(source, there) == {}
    assert other.qmp.execute("query-status")["running"]


def test_measuring_is_bounded(make_stunt, engine):
    """One at a time; those who leave, drip or never end are sent away, and a migration comes before them."""
    source = make_stunt(name="src", memory=32 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port):
        with connect(port) as one:
            one.sendall(hello(role=4))
            assert answer(one) == 0
            with connect(port) as two:
                assert say(two, hello(role=4)) == 2
            assert "measurement is under way" in receive.wait_event(event="refused")["why"]
        assert "left before" in receive.wait_event(event="refused")["why"]
        with connect(port) as slow:
            slow.sendall(hello(role=4) + b"x")
            assert answer(slow) == 0
            assert "too long" in receive.wait_event(event="refused", timeout=20)["why"]
        with connect(port) as silent:
            silent.sendall(hello(role=4) + bytes(1000))
            assert answer(silent) == 0
            serves(source, receive, port)


def test_flood_of_silent_clients(make_stunt, engine):
    """More silent clients than there is room for: still the migration gets through once they are sent away."""
    source = make_stunt(name="src", memory=32 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port):
        crowd = [connect(port) for _ in range(40)]
        assert "too many" in receive.wait_event(event="refused")["why"]
        for client in crowd:
            client.close()
        serves(source, receive, port)


def test_not_godwit_at_the_other_end(make_stunt, engine):
    """send, pointed at something else that listens: one line, and the guest runs on."""
    source = make_stunt(name="src", memory=32 * MIB)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with gw.Engine("send", "--qmp", source.qmp_path, "--to", f"tcp:127.0.0.1:{port}") as send:
            client, _ = server.accept()
            client.sendall(b"220 mail.example.org ESMTP ready for you, dear client\r\n")
            result = send.wait()
            client.close()
    assert result.code == 1 and "not 'godwit receive'" in result.stderr
    assert source.qmp.execute("query-status")["running"]


def frame(message):
    text = json.dumps(message).encode()
    return struct.pack("<I", len(text)) + text


PING = frame({"type": "ping"})


def welcomed(port, host="127.0.0.1"):
    """A control connection that was let in and has brought no guest."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(host, 0))
    client.sendall(hello())
    assert answer(client) == 0
    return client


class Pinging(threading.Thread):
    """Says a right hello, then pings twice a second for as long as it is let; comes again when it is sent away."""

    def __init__(self, port):
        super().__init__(name="pinging", daemon=True)
        self.port, self.times, self.over = port, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError, AssertionError), welcomed(self.port) as client:
                self.times += 1
                client.settimeout(0.5)
                while not self.over.is_set():
                    client.sendall(PING)
                    with contextlib.suppress(TimeoutError):
                        if not client.recv(4096):
                            break

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.join(30)


def test_a_stranger_that_pings_does_not_hold_the_receiver(make_stunt, engine):
    """The source is served at once beside it, and it is sent away when its time is over, however it pings."""
    source = make_stunt(name="src", memory=32 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port), Pinging(port) as stranger:
        came = time.monotonic()
        assert "brought no guest within 10 s" in receive.wait_event(event="refused", timeout=30)["why"]
        assert 8 < time.monotonic() - came < 15
        while stranger.times < 2:
            time.sleep(0.01)
        began = time.monotonic()
        serves(source, receive, port)
        assert time.monotonic() - began < 9
        assert any("another migration" in why for why in refusals(receive))


FLOODS = {
    "pings": (PING * 20000, "sends pings, and no guest"),
    "loads": (frame({"type": "load", "threads": 1}) * 20000, "'load' and not its guest"),
    "another stage": (frame({"type": "request", "stage": "run", "args": {}}), "'request run' and not its guest"),
    "brackets": (struct.pack("<I", 512 << 10) + b"[" * (512 << 10), "not JSON"),
    "another guest": (frame({"type": "request", "stage": "inspect",
                             "args": {"guest": {"vmm": "other"}, "x": "y" * (500 << 10)}}), ""),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_stranger_that_floods_is_sent_away(make_stunt, engine, flood):
    """Whatever it says behind a right hello, in whatever amount: in one line, and the next one is served."""
    text, why = FLOODS[flood]
    source = make_stunt(name="src", memory=32 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port):
        with welcomed(port) as client:
            try:
                client.sendall(text)
                while client.recv(1 << 16):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
            assert why in receive.wait_event(event="refused")["why"]
        serves(source, receive, port)
        assert receive.wait().report["max-rss"] < 128 << 10


def test_a_crowd_of_control_connections(make_stunt, engine):
    """More of them than there is room for, each with a right hello and pings, from another host than the source's: the
    source is served while they stand there."""
    source = make_stunt(name="src", memory=32 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port), contextlib.ExitStack() as stack:
        def come():
            client = stack.enter_context(welcomed(port, "127.0.0.2"))
            client.sendall(PING)
        for _ in range(40):
            come()
        assert "too many connections" in receive.wait_event(event="refused")["why"]
        over = threading.Event()

        def crowd():
            while not over.is_set():
                try:
                    come()
                except (OSError, AssertionError):
                    return
        thread = threading.Thread(target=crowd, daemon=True)
        thread.start()
        began = time.monotonic()
        serves(source, receive, port)
        took = time.monotonic() - began
        over.set()
        thread.join(30)
    assert took < 10, took


def test_the_receiver_is_only_held_by_a_guest_that_fits(make_stunt, engine):
    """A source with another guest comes again and again; the right one gets in between."""
    source = make_stunt(name="src", memory=32 * MIB)
    other = make_stunt(name="other", memory=64 * MIB)
    with waiting(make_stunt.destination(source)) as (receive, port):
        for _ in range(3):
            with gw.Engine("send", "--qmp", other.qmp_path, "--to", f"tcp:127.0.0.1:{port}") as send:
                assert send.wait().code == 1
            assert "ram0" in receive.wait_event(event="refused")["why"]
        serves(source, receive, port)
