# SPDX-License-Identifier: Apache-2.0
"""`receive` under limits that are too small: it ends in a sentence, and the guest runs on; or it does its work."""
import resource
import signal

import pytest

from gwtest import engine as gw, oracle
from gwtest.qemu import MIB
from scene import PATIENCE, wait_until, words_of


def send(scene, receive, **options):
    engine = gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", f"tcp:127.0.0.1:{receive.port}", **options)
    with engine:
        return engine.wait(PATIENCE)


def check_in_a_sentence(received, *words):
    assert received.code == 1, received
    errors = [line for line in received.stderr.splitlines() if line.startswith("godwit receive: error: ")]
    assert len(errors) == 1, received.stderr
    for word in words:
        assert word in errors[0], errors[0]


def test_a_file_that_may_not_grow(make_scene):
    """RLIMIT_FSIZE below the size of RAM: the signal for it would kill."""
    scene = make_scene(memory=32 * MIB, fill=90, backends=None)
    there = scene.spare()
    receive = scene.receive(there, prefix=("prlimit", f"--fsize={4 * MIB}"))
    sent = send(scene, receive)
    received = receive.wait(PATIENCE)
    check_in_a_sentence(received, "File too large")
    assert received.code != -signal.SIGXFSZ
    assert sent.code == 1 and "File too large" in sent.report["error"]["desc"], sent
    scene.check_runs_on()
    scene.check_retry(there)


@pytest.mark.parametrize("files", [4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 30])
def test_few_descriptors(make_scene, files):
    """From too few to begin with up to enough."""
    scene = make_scene(memory=32 * MIB)
    there = scene.spare()
    try:
        receive = scene.receive(there, prefix=("prlimit", f"--nofile={files}"), settings={"autostart": "off"})
    except RuntimeError as error:  # it has ended before it listened
        assert "code=1" in str(error) and "Too many open files" in str(error), error
        scene.check_runs_on()
        return
    sent = send(scene, receive, settings={"link-timeout": 5})
    if sent.code == 0:
        assert receive.wait(PATIENCE).code == 0
        assert oracle.compare_ram(scene.source, there) == {}
        return
    assert sent.code == 1, sent
    untaken = "cannot take a connection: Too many open files"
    wait_until(lambda: untaken in words_of(receive) or not receive.alive(), "it says so and waits, or ends")
    if receive.alive():  # not even one more connection could be taken
        receive.signal(signal.SIGTERM)
        assert receive.wait(PATIENCE).code == 1
    else:
        check_in_a_sentence(receive.wait(PATIENCE), "Too many open files")
    scene.check_runs_on()


def test_forty_descriptors_are_enough(make_scene):
    """The limit of the other test is not one that nobody reaches."""
    scene = make_scene(memory=32 * MIB)
    receive = scene.receive(prefix=("prlimit", "--nofile=40"))
    assert send(scene, receive).code == 0 and receive.wait(PATIENCE).code == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 40


@pytest.mark.parametrize("side", ["receive", "send"])
def test_nowhere_to_write_events(make_scene, side):
    """The disk is full: said once, and the migration completes."""
    scene = make_scene(memory=32 * MIB)
    events = ("--events", "/dev/full")
    receive = scene.receive(machine=False, args=events if side == "receive" else ())
    sender = gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", f"tcp:127.0.0.1:{receive.port}",
                       *(events if side == "send" else ()), machine=False)
    with sender:
        sent = sender.wait(PATIENCE)
    received = receive.wait(PATIENCE)
    assert sent.code == 0 and received.code == 0, (sent, received)
    words = (sent if side == "send" else received).stderr
    assert words.count("events are lost: the file takes no more of them: No space left on device") == 1, words
