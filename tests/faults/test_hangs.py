# SPDX-License-Identifier: Apache-2.0
"""`send` is alive and does nothing: stopped, frozen, or stuck. Its guardian ends it when the guest waits for it."""
import contextlib
import os
import signal
import time

import pytest

from gwtest import clean
from scene import PATIENCE, STAGES, TRACKED, wait_until, words_of

# Seconds from the hang until the guest is at full speed: the guardian waits 3. The rest is for a busy machine.
BOUND = 5
MARGIN = 3
STANDS = ["final", "device", "hand-over"]  # at their beginning the guest stands still
HOLD = 60000
# Held back by nearly all that there is, for a long time.
LOAD = "uniform,rate=300M,hot=32M,write=4096"
SLOW = {"max-bandwidth": "8M", "compression": "none"}


def stamps(scene):
    return scene.source.stats_lines()[-1]["stamps"]


def speed(scene, seconds):
    before, began = stamps(scene), time.monotonic()
    time.sleep(seconds)
    return (stamps(scene) - before) / (time.monotonic() - began)


def wait_full_speed(scene, full, began):
    while speed(scene, 0.3) < 0.5 * full:
        assert time.monotonic() - began < PATIENCE, "the guest never came back"
    assert time.monotonic() - began < BOUND + MARGIN


def check_ended(scene, migration):
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()
    assert "the engine hung while the guest waited for it, and was ended; the guest runs on at the source as before" \
        in words_of(migration.send)


@pytest.mark.parametrize("stage, tracker", [(s, "async") for s in STAGES] + [(s, "sync") for s in TRACKED])
def test_stopped(make_scene, stage, tracker):
    """SIGSTOP in any stage. With the sync tracker the guest waits for us as soon as it writes."""
    scene = make_scene()
    full = speed(scene, 0.5)
    migration = scene.migrate(scene.spare(), {"tracker": tracker}, fault=f"hold@{stage}={HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    migration.send.signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_full_speed(scene, full, began)
    if stage in STANDS or tracker == "sync":
        check_ended(scene, migration)
    else:
        assert migration.send.alive(), "nobody waited for it, and it was ended"
        migration.send.kill()
        scene.check_runs_on()


@pytest.mark.parametrize("stage", ["iterate", "final", "device"])
def test_stopped_real(make_real, stage):
    scene = make_real()
    migration = scene.migrate(scene.spare(), fault=f"hold@{stage}={HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    migration.send.signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: scene.source.qmp.status() == "running", "the guest runs")
    assert time.monotonic() - began < BOUND + MARGIN
    if stage in STANDS:
        check_ended(scene, migration)
    else:
        migration.send.kill()
        scene.check_runs_on()


def test_stopped_while_the_guest_is_held_back(make_scene):
    scene = make_scene(load=LOAD, memory=48 << 20)
    full = speed(scene, 1)
    migration = scene.migrate(scene.spare(), SLOW)
    migration.send.wait_event(lambda e: e["event"] == "throttle" and e["percent"] >= 90, timeout=PATIENCE)
    migration.send.signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_full_speed(scene, full, began)
    check_ended(scene, migration)


def is_busy(path):
    """Removes the group; true while something in it is still ending."""
    try:
        os.rmdir(path)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def freezer():
    """A control group of its own in the freezer of version 1."""
    root = "/sys/fs/cgroup/freezer"
    path = f"{root}/godwit-test-{os.getpid()}"
    if not os.path.exists(f"{root}/cgroup.procs"):
        pytest.skip("no freezer of version 1")
    os.mkdir(path)
    try:
        yield path
    finally:
        with open(f"{path}/freezer.state", "w", encoding="ascii") as file:
            file.write("THAWED")
        with open(f"{path}/cgroup.procs", encoding="ascii") as file:
            left = file.read().split()
        for pid in left:
            move(pid, root)
        wait_until(lambda: not is_busy(path), "the group is empty")


def move(pid, group):
    with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))


def test_frozen(make_scene):
    """All of its control group, in which it began: the guardian has left that."""
    scene = make_scene()
    full = speed(scene, 0.5)
    with freezer() as group:
        move(os.getpid(), group)
        try:
            migration = scene.migrate(scene.spare(), fault=f"hold@final={HOLD}")
        finally:
            move(os.getpid(), os.path.dirname(group))
        move(migration.receive.pid, os.path.dirname(group))
        migration.send.wait_event(event="stage", stage="final")
        with open(f"{group}/freezer.state", "w", encoding="ascii") as file:
            file.write("FROZEN")
        wait_full_speed(scene, full, time.monotonic())
        check_ended(scene, migration)


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
@pytest.mark.parametrize("where, descriptors", [("blocked", 0), ("made", 1), ("known", 1), ("closed", 0)])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_inside_the_injection(request, make, where, descriptors, how):
    """Killed or stopped while a thread of the VMM runs our calls: it has its signal mask back, and no descriptor of ours."""
    scene = request.getfixturevalue(make)()
    before = blocked(scene.source.pid)
    migration = scene.migrate(scene.spare(), fault=f"hold-injection@{where}={HOLD}")
    wait_until(lambda: blocked(scene.source.pid) != before and clean.userfaultfds(scene.source.pid) == descriptors,
               "the injection is there")
    migration.send.signal(how)
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    scene.check_runs_on()
    assert blocked(scene.source.pid) == before
    migration.receive.wait(PATIENCE)
    scene.check_retry()


def blocked(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(line.split()[1] for line in file if line.startswith("SigBlk:"))


def test_an_events_pipe_that_nobody_reads(make_scene, shm):
    """The migration completes; its file never held it up."""
    scene = make_scene()
    path = os.path.join(shm, "events-pipe")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        there = scene.spare()
        migration = scene.migrate(there, send_args=("--events", path))
        received = migration.receive.wait(PATIENCE)
        assert received.code == 0, received
        assert migration.send.wait(PATIENCE).code == 0
    finally:
        os.close(reader)
