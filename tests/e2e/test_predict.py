# SPDX-License-Identifier: Apache-2.0
"""godwit predict: what it says, that the guest does not notice, and that a receiver it measures with goes on waiting."""
import itertools
import json
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from gwtest import clean, engine as gw, oracle, places
from gwtest.qemu import MIB
from scene import wait_until
from test_own_ram import PAGE, Video, all_used

POLICIES = {"none", "stepped", "staged", "rate"}
RANGES = {"total-time", "downtime", "transferred", "work-lost", "remaining"}


def predict(*args, **options):
    return subprocess.run([places.godwit(), "predict", *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, timeout=120, **options)


def predict_json(*args, code=0):
    result = predict("--json", *args)
    assert result.returncode == code, result
    return json.loads(result.stdout)


def check_report(report):
    assert set(report["policies"]) == POLICIES
    for policy in report["policies"].values():
        assert policy["ends"] in ("yes", "no", "perhaps")
        for name in RANGES:
            assert policy[name]["least"] <= policy[name]["likely"] <= policy[name]["most"], (name, policy)
    assert report["recommended"] is None or report["policies"][report["recommended"]]["ends"] == "yes"


@pytest.fixture
def listening(engine):
    """listening(guest, **options of Engine): (a `receive` that waits, its address)."""
    started = []

    def start(there, **options):
        port = next(gw._ports)
        address = f"tcp:127.0.0.1:{port}"
        receive = gw.Engine("receive", "--qmp", there.qmp_path, "--listen", address, **options)
        started.append(receive)
        receive.wait_listening(port)
        return receive, address
    yield start
    for receive in started:
        receive.close()


@pytest.mark.smoke
@pytest.mark.parametrize("tracker", ["async", "sync"])
def test_a_guest_that_is_watched_runs_on(make_stunt, engine, root, tracker):
    guest = make_stunt(memory=64 * MIB, load="uniform,rate=20M")
    before = clean.Snapshot(guest, [guest.directory])
    stamps = guest.stats()["stamps"]
    report = predict_json("--qmp", guest.qmp_path, "--link", "1G", "--seconds", 1, "--set", f"tracker={tracker}")
    check_report(report)
    assert report["status"] == "ends" and report["recommended"] is not None
    assert report["guest"]["ram"] == 64 * MIB and report["guest"]["dirty-rate"] > 0
    assert report["link"] == {"rate": pytest.approx(0.95e9), "measured": False}
    before.check()
    assert guest.qmp.execute("query-status")["running"]
    assert guest.stats()["stamps"] > stamps
    guest.qmp.execute("stop")
    guest.check()


def test_a_table_for_people(make_stunt, engine, root):
    guest = make_stunt(memory=32 * MIB, load=None)
    result = predict("--qmp", guest.qmp_path, "--link", "100M", "--seconds", 1)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines if line} >= POLICIES | {"guest", "link", "policy"}
    assert lines[-1] == "Recommended: throttle-policy=none"


def test_what_will_not_end_is_said(make_stunt, engine, root):
    """Memory in full every second over a link that takes a minute for it, and a guest that may not be held back."""
    guest = make_stunt(memory=64 * MIB, load="uniform,rate=60M,write=4096", mix="0,0,100,0")
    common = ["--qmp", guest.qmp_path, "--link", "8M", "--seconds", 2]
    report = predict_json(*common, "--set", "throttle-policy=none", code=4)
    check_report(report)
    assert report["status"] == "will-not-end" and report["policies"]["none"]["ends"] == "no"
    assert "progress-timeout" in report["policies"]["none"]["reason"]
    short = predict_json(*common, "--set", "completion-timeout=2", code=4)
    assert short["recommended"] is None and short["cure"] is not None
    assert all(p["ends"] == "no" for p in short["policies"].values())
    text = predict(*common, "--set", "completion-timeout=2")
    assert text.returncode == 4 and "would not surely end" in text.stdout


def test_a_real_guest(make_guest, engine, root):
    guest = make_guest()
    before = clean.Snapshot(guest)
    report = predict_json("--qmp", guest.qmp_path, "--link", "1G", "--seconds", 2)
    check_report(report)
    assert report["status"] == "ends"
    before.check()
    assert guest.qmp.status() == "running"


@pytest.mark.parametrize("tracker", ["async", "sync"])
def test_video_memory_that_is_written(make_bare, tracker):
    """What QEMU owns itself counts as the guest's: how much it is, and how much of it is written."""
    guest = make_bare(memory=64 * MIB)
    video, over = Video(guest), threading.Event()

    def draw():
        for n in itertools.count():
            video.write(500, bytes([n % 256]) * (2048 * PAGE))
            if over.wait(0.05):
                return

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        report = predict_json("--qmp", guest.qmp_path, "--link", "1gbit", "--seconds", 2, "--set", f"tracker={tracker}")
    finally:
        over.set()
        drawing.join()
    assert report["guest"]["ram"] == all_used(guest)
    assert report["guest"]["dirty-rate"] > 8 * MIB, report["guest"]  # the firmware itself writes a few pages


def test_the_receiver_that_measured_takes_the_guest(make_stunt, listening, root):
    source = make_stunt(name="src", memory=32 * MIB)
    there = make_stunt.destination(source)
    receive, address = listening(there, settings={"autostart": "off"})
    for _ in range(2):
        report = predict_json("--qmp", source.qmp_path, "--to", address, "--seconds", 1)
        check_report(report)
        assert report["link"]["measured"] and report["link"]["rate"] > 1e6
        assert receive.alive()
    with gw.Engine("send", "--qmp", source.qmp_path, "--to", address) as send:
        assert send.wait().code == 0
    assert receive.wait().code == 0
    assert oracle.compare_ram(source, there) == {}
    assert not [e for e in receive.events() if e["event"] == "refused"]


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment(make_stunt, engine, root, seed):
    source = make_stunt(name="src", memory=64 * MIB, load="uniform,rate=20M")
    before = clean.Snapshot(source, [source.directory])
    tracker = "sync" if seed % 2 else "async"
    with gw.Engine("predict", "--qmp", source.qmp_path, "--link", "1G", "--set", f"tracker={tracker}",
                   machine=False) as killed:
        time.sleep(random.Random(seed).random() * 2)
        assert killed.kill().code == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while before.differences() and time.monotonic() < deadline:
        time.sleep(0.05)
    before.check()
    assert source.qmp.execute("query-status")["running"]
    there = make_stunt.destination(source)
    with gw.Migration(source, there, settings={"autostart": "off"}) as migration:
        migration.complete()
    assert oracle.compare_ram(source, there) == {}


def test_cancelled(make_stunt, engine, root):
    guest = make_stunt(memory=32 * MIB)
    before = clean.Snapshot(guest, [guest.directory])
    with gw.Engine("predict", "--qmp", guest.qmp_path, "--link", "1G", "--seconds", 60, machine=False) as watcher:
        wait_until(lambda: clean.registered_ranges(guest.pid), "it watches")
        watcher.signal(signal.SIGINT)
        result = watcher.wait(20)
    assert result.code == 1 and "cancelled" in result.stderr
    before.check()
    assert guest.qmp.execute("query-status")["running"]


STRANGERS = {"http": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
             "garbage": bytes(range(200, 256)), "nothing": b""}


@pytest.mark.parametrize("what", STRANGERS)
def test_something_else_listens(make_stunt, engine, root, what):
    guest = make_stunt(memory=32 * MIB)
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            client, _ = server.accept()
            with client:
                client.recv(40)
                client.sendall(STRANGERS[what])
        thread = threading.Thread(target=serve)
        thread.start()
        result = predict("--qmp", guest.qmp_path, "--to", f"tcp:127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert result.returncode == 1 and result.stdout == ""
    assert ("not 'godwit receive'" if STRANGERS[what] else "welcome") in result.stderr
    assert guest.qmp.execute("query-status")["running"]


def test_an_older_receiver_is_told_apart(make_stunt, engine, root):
    """It refuses a role that it does not know."""
    guest = make_stunt(memory=32 * MIB)
    welcome = b"\x89godwi\r\n" + bytes([2, 0, 3]) + bytes(21)
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            client, _ = server.accept()
            with client:
                client.recv(40)
                client.sendall(welcome)
        thread = threading.Thread(target=serve)
        thread.start()
        result = predict("--qmp", guest.qmp_path, "--to", f"tcp:127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert result.returncode == 1 and "does not know how to measure" in result.stderr


@pytest.mark.parametrize("args, why", [
    ((), "--qmp is missing"), (("--qmp", "x"), "over which link"),
    (("--qmp", "x", "--link", "1G", "--to", "tcp:h:1"), "give one of them"),
    (("--qmp", "x", "--link", "fast"), "not a rate"), (("--qmp", "x", "--link", "1"), "not a rate"),
    (("--qmp", "x", "--link", "nan"), "not a rate"), (("--qmp", "x", "--link", "-1G"), "not a rate"),
    (("--qmp", "x", "--link", "0x10M"), "not a rate"), (("--qmp", "x", "--link", "1GG"), "not a rate"),
    (("--qmp", "x", "--link", "1G", "--seconds", "0"), "1 to 600"),
    (("--qmp", "x", "--link", "1G", "--seconds", "601"), "1 to 600"),
    (("--qmp", "x", "--link", "1G", "--set", "speed=1"), "no parameter"),
    (("--qmp", "x", "--link", "1G", "extra"), "what is 'extra' for")])
def test_wrong_use(engine, args, why):
    result = predict(*args)
    assert result.returncode == 2 and why in result.stderr and result.stdout == ""
