# SPDX-License-Identifier: Apache-2.0
"""Nobody may hold a guest up: not the terminal, not who reads our messages, not who connects; and what the operator does
to the guest meanwhile is what counts."""
import os
import signal
import socket
import subprocess

import pytest

from gwtest import engine as gw, oracle, places, wire
from scene import BY_MIGRATE, PATIENCE

HELLO = wire.hello()


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN])
def test_job_control_does_not_stop_it(make_scene, number):
    scene = make_scene()
    migration = scene.migrate(scene.spare(), fault="hold@final=300")
    migration.send.wait_event(event="stage", stage="final")
    for engine in (migration.send, migration.receive):
        engine.signal(number)
    migration.complete(PATIENCE)


def test_nobody_reads_the_messages(make_scene, shm):
    """stderr is a pipe that is full before it begins, with everything that -vv has to say."""
    scene = make_scene()
    there = scene.spare()
    port = next(gw._ports)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}") as receive:
        receive.wait_listening(port)
        sent = subprocess.run([places.godwit(), "send", "-vv", "--qmp", scene.source.qmp_path, "--to",
                               f"tcp:127.0.0.1:{port}"], stderr=writer, stdin=subprocess.DEVNULL, timeout=PATIENCE,
                              stdout=subprocess.DEVNULL, check=False)
        assert sent.returncode == 0 and receive.wait(PATIENCE).code == 0
    os.close(reader)
    os.close(writer)


@BY_MIGRATE
@pytest.mark.parametrize("before, command, after", [("stop", "cont", "running"), (None, "stop", "paused")])
def test_stopped_or_let_run_meanwhile(make_real, before, command, after):
    """What the operator did to the guest while its memory was copied is what it is at the destination."""
    scene = make_real()
    if before:
        scene.source.qmp.execute(before)
    there = scene.spare()
    migration = scene.migrate(there, fault="hold@iterate=800")
    migration.send.wait_event(event="stage", stage="iterate")
    scene.source.qmp.execute(command)
    report = migration.complete(PATIENCE)
    assert there.qmp.status() == after
    assert ("downtime" in report) == (after == "running")


@pytest.mark.parametrize("autostart", ["on", "off"])
def test_the_destination_gets_its_settings_back(make_scene, autostart):
    scene = make_scene()
    there = scene.spare()
    before = there.qmp.execute("query-migrate-capabilities")
    scene.migrate(there, settings={"autostart": autostart}).complete(PATIENCE)
    assert there.qmp.execute("query-migrate-capabilities") == before


def test_strangers_with_a_right_hello(make_scene):
    """A port scanner that speaks our hello, one that says nonsense behind it, one that says nothing: each is sent away,
    and the source that comes after them is served."""
    scene = make_scene()
    there = scene.spare()
    port = next(gw._ports)
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}",
                   settings={"autostart": "off", "link-timeout": 2}) as receive:
        receive.wait_listening(port)
        for text in (b"", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x08\0\0\0nonsense"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(HELLO + text)
                client.recv(32)
                if text:
                    client.settimeout(10)
                    while client.recv(4096):
                        pass
            receive.wait_event(event="refused", timeout=PATIENCE)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(HELLO)
            receive.wait_event(event="refused", timeout=PATIENCE)  # silent for link-timeout
        with gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", f"tcp:127.0.0.1:{port}") as send:
            assert send.wait(PATIENCE).code == 0
        assert receive.wait(PATIENCE).code == 0
    assert oracle.compare_ram(scene.source, there) == {}


def test_a_live_change_does_not_lift_the_other_sides_limit(make_scene):
    scene = make_scene()
    migration = scene.migrate(scene.spare(), settings={"max-bandwidth": "8M"}, receive_settings={"max-bandwidth": "4M"},
                              fault="hold@iterate=400")
    migration.send.wait_event(event="stage", stage="ram-full")
    with migration.send.control() as control:
        assert control.execute("query-migrate-parameters")["max-bandwidth"] == 4 << 20
        control.execute("migrate-set-parameters", {"max-bandwidth": 0})
        assert control.execute("query-migrate-parameters")["max-bandwidth"] == 4 << 20
        control.execute("migrate-set-parameters", {"max-bandwidth": 1 << 20})
        assert control.execute("query-migrate-parameters")["max-bandwidth"] == 1 << 20
        control.execute("migrate_cancel")
    assert migration.send.wait(PATIENCE).code == 1
    scene.check_runs_on()
