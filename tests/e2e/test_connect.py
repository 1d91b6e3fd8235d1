# SPDX-License-Identifier: Apache-2.0
"""The way to the receiver: one that comes later, one that never comes, and names with several addresses."""
import os
import signal
import socket
import subprocess
import time

import pytest

from gwtest import engine as gw, places
from gwtest.netns import Hosts
from scene import PATIENCE


def send_to(source, address, *args, **options):
    return gw.Engine("send", "--qmp", source.qmp_path, "--to", address, *args, **options)


def free_port():
    return next(gw._ports)


def test_a_receiver_that_comes_later(make_scene):
    """It is said once that it is waited for, not at every attempt."""
    scene = make_scene()
    there = scene.spare()
    port = free_port()
    with send_to(scene.source, f"tcp:127.0.0.1:{port}", "--wait", "60s", settings={"autostart": "off"}) as send:
        send.wait_event(event="waiting")
        time.sleep(1)
        with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}") as receive:
            sent, received = send.wait(PATIENCE), receive.wait(PATIENCE)
    assert sent.code == 0 and received.code == 0, (sent, received)
    assert len([e for e in sent.events if e["event"] == "waiting"]) == 1
    assert sent.stderr.count("trying again for up to 60 s") == 1, sent.stderr


def test_a_receiver_that_never_comes(make_scene):
    scene = make_scene()
    for wait, least in ((0, 0), (1, 1)):
        begin = time.monotonic()
        with send_to(scene.source, f"tcp:127.0.0.1:{free_port()}", "--wait", wait) as send:
            result = send.wait(PATIENCE)
        assert result.code == 1 and result.report["error"]["class"] == "link", result
        assert "Connection refused (is 'godwit receive' running there?)" in result.stderr
        assert ("trying again" in result.stderr) == (wait > 0), result.stderr
        assert "the guest runs on at the source" in result.stderr
        assert time.monotonic() - begin >= least
    scene.check_runs_on()


def by_signal(send):
    send.signal(signal.SIGTERM)


def by_interrupt(send):
    send.signal(signal.SIGINT)


def by_control(send):
    subprocess.run([places.godwit(), "cancel", "--control", send.control_path], check=True, timeout=PATIENCE)


class Deaf:
    """A port whose host answers nothing, as behind a firewall that drops."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.clients = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))
            self.clients.append(client)
        time.sleep(0.1)

    def close(self):
        for one in [self.listener, *self.clients]:
            one.close()


# What it is connecting to, and the fault that holds it there.
PLACES = {"nobody": None, "deaf": None, "slow name": "slow-name=60000"}


@pytest.mark.parametrize("way", [by_signal, by_interrupt, by_control])
@pytest.mark.parametrize("place", list(PLACES))
def test_a_cancel_counts_while_connecting(make_scene, place, way):
    scene = make_scene()
    deaf = Deaf() if place == "deaf" else None
    port = deaf.port if deaf else free_port()
    host = "localhost" if place == "slow name" else "127.0.0.1"
    with send_to(scene.source, f"tcp:{host}:{port}", "--wait", "1h", fault=PLACES[place]) as send:
        send.wait_event(event="stage", stage="connect")
        time.sleep(0.5)
        begin = time.monotonic()
        way(send)
        result = send.wait(PATIENCE)
        took = time.monotonic() - begin
    if deaf:
        deaf.close()
    assert result.code == 1 and result.report["status"] == "cancelled", result
    assert took < 3, took
    scene.check_runs_on()


@pytest.mark.parametrize("address, words", [
    # No name begins so, which the resolver knows without asking anybody: there may be nobody to ask.
    ("tcp:-no-such-host.invalid:4914", ["cannot resolve -no-such-host.invalid", "spelled right"]),
    ("tcp:127.0.0.1:no-such-service", ["cannot resolve 127.0.0.1 port no-such-service"]),
    ("unix:/no/such/folder/s", ["/no/such/folder/s: No such file or directory", "is 'godwit receive' running there?"])])
def test_where_nobody_can_be(make_scene, address, words):
    scene = make_scene()
    with send_to(scene.source, address, "--wait", "0") as send:
        result = send.wait(PATIENCE)
    assert result.code == 1 and all(word in result.stderr for word in words), result
    scene.check_runs_on()


class Names:
    """A network namespace whose /etc/hosts is ours ('ip netns exec' mounts it)."""

    def __init__(self, netns, text):
        self.folder = f"/etc/netns/{netns}"
        os.makedirs(self.folder)
        with open(f"{self.folder}/hosts", "w", encoding="ascii") as file:
            file.write(text)

    def close(self):
        os.remove(f"{self.folder}/hosts")
        os.rmdir(self.folder)


def listen_in(netns, address, port):
    """A stranger that accepts and says nothing."""
    code = ("import socket, sys\ns = socket.create_server((sys.argv[1], int(sys.argv[2])))\nprint('ready', flush=True)\n"
            "kept = []\nwhile True:\n kept.append(s.accept())")
    child = subprocess.Popen(["ip", "netns", "exec", netns, "python3", "-c", code, address, str(port)],
                             stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    return child


def test_all_connections_go_to_the_host_that_answered(make_scene):
    """A name of two addresses, as with round robin: another host answers at the first one by the time that channels are
    made. Resolved anew, they would go to that host."""
    scene = make_scene()
    there = scene.spare()
    with Hosts() as hosts:
        names = Names(hosts.a.netns, "127.0.0.2 hostb\n127.0.0.3 hostb\n127.0.0.1 localhost\n")
        try:
            with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", "tcp:127.0.0.3:4914",
                           netns=hosts.a.netns) as receive:
                receive.wait_listening(4914)
                with send_to(scene.source, "tcp:hostb:4914", netns=hosts.a.netns, settings={"autostart": "off"},
                             fault="hold@attach=2000") as send:
                    send.wait_event(event="stage", stage="attach")
                    stranger = listen_in(hosts.a.netns, "127.0.0.2", 4914)
                    try:
                        sent, received = send.wait(PATIENCE), receive.wait(PATIENCE)
                    finally:
                        stranger.kill()
                        stranger.wait()
        finally:
            names.close()
    assert sent.code == 0 and received.code == 0, (sent, received)
