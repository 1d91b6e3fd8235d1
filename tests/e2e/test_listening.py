# SPDX-License-Identifier: Apache-2.0
"""`receive` says when it listens, and for how long it waits for a source."""
import json
import os
import socket
import threading
import time

from gwtest import engine as gw, wire
from gwtest.qemu import MIB

PING = wire.message({"type": "ping"})


def receive(there, address, *args, **options):
    return gw.Engine("receive", "--qmp", there.qmp_path, "--listen", address, *args, **options)


def destination(make_stunt):
    return make_stunt.destination(make_stunt(name="src", memory=32 * MIB))


def lines_of(result):
    return [line for line in result.stderr.splitlines() if "listening" in line]


def test_it_says_where_it_listens(make_stunt, engine, shm):
    there = destination(make_stunt)
    port = gw.next_port()
    for address in (f"tcp:127.0.0.1:{port}", f"tcp:[::1]:{port}", f"unix:{os.path.join(shm, 'listen')}"):
        with receive(there, address) as one:
            event = one.wait_event(event="listening")
            assert event["address"] == address
            one.signal(15)
            result = one.wait()
        assert lines_of(result) == [f"godwit receive: listening at {address}"]


def test_when_it_says_so_it_does(make_stunt, engine):
    """Who reads the line may connect at once."""
    there = destination(make_stunt)
    port = gw.next_port()
    with receive(there, f"tcp:127.0.0.1:{port}") as one:
        one.wait_event(event="listening")
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_json_is_alone_on_stdout_and_quiet_is_quiet(make_stunt, engine):
    there = destination(make_stunt)
    port = gw.next_port()
    with receive(there, f"tcp:127.0.0.1:{port}", "--quiet", "--wait", "1") as one:
        result = one.wait()
        with open(one._file("stdout"), encoding="utf-8") as file:
            assert json.load(file)["status"] == "failed"
    assert lines_of(result) == []


def test_it_gives_up_when_nobody_comes(make_stunt, engine):
    there = destination(make_stunt)
    began = time.monotonic()
    with receive(there, f"tcp:127.0.0.1:{gw.next_port()}", "--wait", "2") as one:
        result = one.wait()
    assert 1.9 < time.monotonic() - began < 12
    assert result.code == 1 and result.report["error"]["class"] == "timeout", result
    assert "error: no source whose guest fits has come within 2 s" in result.stderr
    assert there.qmp.status() == "inmigrate"


def test_strangers_do_not_count(make_stunt, engine):
    there = destination(make_stunt)
    port, over = gw.next_port(), threading.Event()

    def stranger():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(wire.hello())
            try:
                while not over.wait(0.3):
                    client.sendall(PING)
            except OSError:
                pass
    with receive(there, f"tcp:127.0.0.1:{port}", "--wait", "2") as one:
        one.wait_event(event="listening")
        thread = threading.Thread(target=stranger)
        thread.start()
        result = one.wait(20)
        over.set()
        thread.join(10)
    assert result.code == 1 and "has come within 2 s" in result.stderr


def test_a_source_that_came_in_time_may_take_its_time(make_stunt, engine):
    source = make_stunt(name="src", memory=32 * MIB)
    with gw.Migration(source, make_stunt.destination(source), receive_args=("--wait", "3"),
                      fault="hold@iterate=4000") as migration:
        migration.complete()


def test_wait_is_checked(make_stunt, engine):
    there = destination(make_stunt)
    for value in ("-1", "x", "86401", ""):
        with receive(there, f"tcp:127.0.0.1:{gw.next_port()}", "--wait", value) as one:
            result = one.wait()
        assert result.code == 2 and f"--wait {value}" in result.stderr, result


def test_the_socket_of_another_receiver_stays(make_stunt, engine, shm):
    """One that fails before it listens deletes no socket that is not its own."""
    source = make_stunt(name="src", memory=32 * MIB)
    address = f"unix:{os.path.join(shm, 'listen')}"
    with receive(make_stunt.destination(source), address) as one:
        one.wait_event(event="listening")
        with receive(source, address) as two:  # a guest that runs: it waits for no other
            assert two.wait().code == 1
        with gw.Engine("send", "--qmp", source.qmp_path, "--to", address) as send:
            assert send.wait().code == 0
        assert one.wait().code == 0
    assert not os.path.exists(address[5:])
