# SPDX-License-Identifier: Apache-2.0
"""`send` or `receive` ends with SIGKILL at every stage before hand-over: the guest runs on at the source."""
import os
import random
import signal
import time

import pytest

from gwtest import clean
from gwtest.card import Card
from scene import (BOTH_WAYS, PATIENCE, REUSABLE, SERVED, STAGES, TRACKED, TRACKERS, UNBOUND, check_waits_on, processes_of,
                   resolve, wait_until, words_of)

# More than the link carries, and nobody throttles it: passes over RAM go on until something else ends them.
BUSY = "uniform,rate=200M"
ENDLESS = {"max-bandwidth": "80M", "compression": "none", "downtime-limit": 1, "throttle-policy": "none"}

SOURCE = [(s, "auto") for s in STAGES if s not in TRACKED] + \
         [pytest.param(s, t, marks=pytest.mark.kernels if s in ("iterate", "final") else ()) for s in TRACKED
          for t in TRACKERS]


def check_guardian(scene, migration):
    """The guardian has put everything back, and said so."""
    scene.check_runs_on()
    said = words_of(migration.send)
    assert "godwit guardian: warning: the engine died; the guest runs on at the source as before" in said


@BOTH_WAYS
@pytest.mark.parametrize("stage, tracker", SOURCE)
def test_send(make_scene, stage, tracker):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"tracker": tracker}, fault=f"kill-source@{stage}")
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    check_guardian(scene, migration)
    if stage in UNBOUND:
        check_waits_on(migration.receive, stage, "connection")
    else:
        received = migration.receive.wait(PATIENCE)
        assert received.code == (3 if stage == "hand-over" else 1), received
        assert "connection" in received.report["error"]["desc"], received
    scene.check_retry(there if stage in REUSABLE else None)


@BOTH_WAYS
@pytest.mark.parametrize("stage", [pytest.param(s, marks=pytest.mark.kernels if s == "final" else ()) for s in SERVED])
@pytest.mark.parametrize("tracker", TRACKERS)
def test_receive(make_scene, stage, tracker):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"tracker": tracker}, receive_fault=f"kill-destination@{stage}")
    error = scene.check_failed(migration)
    assert error["stage"] == stage and error["class"] == "link", error
    assert "the other godwit" in error["desc"], error
    assert migration.receive.wait(PATIENCE).code == -signal.SIGKILL
    scene.check_runs_on()
    scene.check_retry(there if stage in ("inspect", "attach") else None)


def kill_and_check(scene, migration, side):
    """Kills one engine of a migration that has not stopped its guest: it runs on at the source."""
    assert migration.send.alive(), "it was over before it could be killed"
    getattr(migration, side).kill()
    if side == "send":
        check_guardian(scene, migration)
        assert migration.receive.wait(PATIENCE).code == 1
    else:
        assert scene.check_failed(migration)["class"] == "link"
        scene.check_runs_on()


@pytest.mark.parametrize("side", ["send", "receive"])
@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("seed", range(3))
def test_at_a_random_moment(make_scene, side, tracker, seed):
    """From outside, anywhere in the passes over RAM."""
    scene = make_scene(load=BUSY, memory=96 << 20)
    there = scene.spare()
    migration = scene.migrate(there, {**ENDLESS, "tracker": tracker})
    migration.send.wait_event(event="stage", stage="ram-full")
    time.sleep(random.Random(seed).random() * 1.2)
    kill_and_check(scene, migration, side)
    scene.check_retry(there)


@pytest.mark.parametrize("side", ["send", "receive"])
def test_while_accelerators_have_batches(make_scene, shm, side):
    """Cards so slow that there are always batches in them; what godwit was to the guest ends with it all the same."""
    scene = make_scene(load=BUSY, memory=96 << 20)
    there = scene.spare()
    with Card(shm, "a", rate=20 << 20) as card, Card(shm, "b", rate=20 << 20) as far:
        migration = scene.migrate(there, {"compression": "qat", "accel-devices": card.device},
                                  receive_settings={"accel-devices": far.device})
        migration.send.wait_event(event="stage", stage="ram-full")
        time.sleep(0.5)
        kill_and_check(scene, migration, side)
        assert card.close()["jobs"] > 0
    scene.check_retry(there)


def guardian_of(scene):
    found = [pid for pid, name in processes_of(scene.source.qmp_path).items() if name == "godwit guardian"]
    assert len(found) == 1
    return found[0]


@BOTH_WAYS
def test_both_ends_at_once(make_scene):
    scene = make_scene()
    migration = scene.migrate(scene.spare(), fault="hold@final=60000")
    migration.send.wait_event(event="stage", stage="final")
    assert processes_of(scene.source.qmp_path)
    for engine in (migration.send, migration.receive):
        engine.signal(signal.SIGKILL)
    check_guardian(scene, migration)
    scene.check_retry()


def test_the_guardian(make_scene):
    """Without its guardian a migration still works."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"}, fault="hold@ram-full=300")
    migration.send.wait_event(event="stage", stage="ram-full")
    os.kill(guardian_of(scene), signal.SIGKILL)
    migration.complete(PATIENCE)
    scene.wait_gone()


@BOTH_WAYS
def test_the_guardian_and_send(make_scene):
    """The known limit: nobody is left to say it, and one command of the operator brings the guest back."""
    scene = make_scene()
    migration = scene.migrate(scene.spare(), fault="hold@final=60000")
    migration.send.wait_event(event="stage", stage="final")
    os.kill(guardian_of(scene), signal.SIGKILL)
    migration.send.kill()
    scene.wait_gone()
    saves = scene.device_state == "save"
    assert scene.source.qmp.status() == ("paused" if saves else "finish-migrate")
    scene.source.qmp.execute("cont" if saves else "migrate_cancel")
    wait_until(lambda: scene.source.qmp.status() == "running", "the guest runs")
    scene.check_works(scene.source)


@BOTH_WAYS
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("make", ["make_scene", "make_real"])
@pytest.mark.parametrize("stage", ["attach", "iterate", "final"])
def test_resolve_after_both_were_killed(request, make, stage):
    """`godwit resolve` does what the guardian would have done."""
    scene = request.getfixturevalue(make)()
    migration = scene.migrate(scene.spare(), fault=f"hold@{stage}=60000")
    migration.send.wait_event(event="stage", stage=stage)
    os.kill(guardian_of(scene), signal.SIGKILL)
    migration.send.kill()
    scene.wait_gone()
    os.unlink(migration.send.control_path)
    done = resolve(scene.source)
    assert done.returncode == 0 and done.stdout == "the guest runs\n", done
    scene.check_runs_on()


@BOTH_WAYS
def test_resolve_does_not_take_back_what_may_run_elsewhere(make_real):
    scene = make_real()
    there = scene.spare()
    scene.migrate(there, settings={"autostart": "off"}).complete(PATIENCE)
    refused = resolve(scene.source)
    assert refused.returncode == 1 and "may run at the destination" in refused.stderr
    assert scene.source.qmp.status() == scene.left()
    assert resolve(there).returncode == 1  # nor does the destination run by it
    assert there.qmp.status() == "paused"
    there.stop()
    assert resolve(scene.source, "--take-back").returncode == 0
    assert scene.source.qmp.status() == "running"


@BOTH_WAYS
@pytest.mark.parametrize("stage", ["attach", "iterate", "stop", pytest.param("final", marks=pytest.mark.kernels), "device",
                                   "hand-over"])
def test_send_real(make_real, stage):
    scene = make_real()
    migration = scene.migrate(scene.spare(), fault=f"kill-source@{stage}")
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    check_guardian(scene, migration)
    assert migration.receive.wait(PATIENCE).code == (3 if stage == "hand-over" else 1)
    scene.check_retry()


@BOTH_WAYS
@pytest.mark.parametrize("stage", ["attach", "stop", "final", "device"])
def test_receive_real(make_real, stage):
    scene = make_real()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault=f"kill-destination@{stage}")
    error = scene.check_failed(migration)
    assert error["stage"] == stage and error["class"] == "link", error
    scene.check_runs_on()
    scene.check_retry(there if stage == "attach" else None)


@pytest.mark.parametrize("stage", ["iterate", "stop"])
def test_receive_that_holds_a_vmm(make_real, stage):
    """While it places private RAM it traces the destination's QEMU (src/remote/pin.h): the kernel lets go of that when it
    dies, and QEMU has noticed nothing."""
    scene = make_real(memory_args=["-machine", "pc", "-m", "64M"])
    there = scene.spare()
    migration = scene.migrate(there, fault=f"hold@{stage}=60000")
    migration.send.wait_event(event="stage", stage=stage, timeout=PATIENCE)
    assert clean.traced_threads(there.pid), "this receiver does not hold its VMM"
    migration.receive.kill()
    scene.check_failed(migration)
    scene.check_runs_on()
    assert not clean.traced_threads(there.pid) and there.qmp.status() == "inmigrate"
    scene.check_retry(there)
