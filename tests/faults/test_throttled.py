# SPDX-License-Identifier: Apache-2.0
"""godwit dies, fails, or meets a debugger while it holds the guest back: no guest stays throttled."""
import os
import signal
import time

import pytest

from gwtest.cpugroup import CpuGroup, NoGroup
from scene import PATIENCE, wait_until

# 32 MiB written over and over, at a link of 4 MB/s: held back by nearly all that there is, for a long time.
LOAD = "uniform,rate=300M,hot=32M,write=4096"
SLOW = {"max-bandwidth": "8M", "compression": "none"}
BY_QUOTA = {**SLOW, "throttle-actuator": "cgroup"}


def stamps(scene):
    return scene.source.stats_lines()[-1]["stamps"]


def speed(scene, seconds):
    """Stamps a second."""
    before, began = stamps(scene), time.monotonic()
    time.sleep(seconds)
    return (stamps(scene) - before) / (time.monotonic() - began)


def check_let_go(scene, full):
    """Full speed again, though the machine may be busy with other things for a while."""
    wait_until(lambda: speed(scene, 0.5) > 0.5 * full, "the guest is at its speed again")


def throttled(scene, settings=None):
    """A migration that holds the guest back by 90 % and more."""
    migration = scene.migrate(scene.spare(), settings or SLOW)
    migration.send.wait_event(lambda e: e["event"] == "throttle" and e["percent"] >= 90, timeout=PATIENCE)
    return migration


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_engine_ends(make_scene, number):
    scene = make_scene(load=LOAD, memory=48 << 20)
    full = speed(scene, 1)
    migration = throttled(scene)
    held = speed(scene, 0.5)
    migration.send.signal(number)
    if number != signal.SIGKILL:
        migration.send.wait(PATIENCE)
    assert held < 0.5 * full, "it was not held back"
    check_let_go(scene, full)
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()


def stopped(pid):
    """Whether all threads of a process stand still."""
    states = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/stat", encoding="utf-8") as file:
            states.append(file.read().rpartition(")")[2].split()[0])
    return set(states) == {"T"}


@pytest.fixture
def in_group(make_scene):
    """(a scene, the control group of its guest's vCPUs)"""
    scene = make_scene(load=LOAD, memory=48 << 20)
    try:
        group = CpuGroup(scene.source)
    except NoGroup as error:
        pytest.skip(str(error))
    with group:
        yield scene, group


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_quota_ends_with_the_engine(in_group, number):
    scene, group = in_group
    before = group.quota()
    migration = throttled(scene, BY_QUOTA)
    assert group.quota() != before
    migration.send.signal(number)
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()
    assert group.quota() == before


def test_a_quota_that_the_operator_changed(in_group):
    """Whoever changes it while the guest is held back has the last word, also when the engine dies then."""
    scene, group = in_group
    migration = throttled(scene, BY_QUOTA)
    migration.send.signal(signal.SIGSTOP)
    wait_until(lambda: stopped(migration.send.pid), "send stands still")
    theirs = group.set_quota(77000)
    migration.send.kill()
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()
    assert group.quota() == theirs


def test_the_link_breaks(make_scene):
    scene = make_scene(load=LOAD, memory=48 << 20)
    full = speed(scene, 1)
    migration = throttled(scene)
    migration.receive.kill()
    assert scene.check_failed(migration)["class"] == "link"
    check_let_go(scene, full)
    scene.check_runs_on()
    scene.check_retry()


def test_stopped_by_job_control(make_scene):
    """Ctrl-Z while the guest is held back does not hold it for good."""
    scene = make_scene(load=LOAD, memory=48 << 20)
    migration = throttled(scene)
    migration.send.signal(signal.SIGTSTP)
    time.sleep(1)
    assert speed(scene, 1) > 0, "the guest stands still"
    migration.send.kill()
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()


def test_its_process_dies(make_scene):
    """The VMM ends while its threads are held."""
    scene = make_scene(load=LOAD, memory=48 << 20)
    migration = throttled(scene)
    os.kill(scene.source.pid, signal.SIGKILL)
    result = migration.send.wait(PATIENCE)
    assert result.code == 1, result
    wait_until(lambda: not migration.receive.alive(), "the receiver ends")
