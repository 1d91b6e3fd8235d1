# SPDX-License-Identifier: Apache-2.0
"""Somebody wants the migration to end: by signal or over --control, on either side, at every stage."""
import json
import re
import signal
import subprocess

import pytest

from gwtest import places
from gwtest.qmp import QmpError
from scene import BY_MIGRATE, PATIENCE, REUSABLE, SERVED, STAGES, UNBOUND, check_waits_on

HOLD = 60000  # ms; the cancel ends it


def over_control(engine):
    with engine.control() as control:
        control.execute("migrate_cancel")


def by_command(engine):
    subprocess.run([places.godwit(), "cancel", "--control", engine.control_path], check=True, timeout=PATIENCE)


WAYS = {
    "SIGINT": lambda engine: engine.signal(signal.SIGINT),
    "SIGTERM": lambda engine: engine.signal(signal.SIGTERM),
    "migrate_cancel": over_control,
    "godwit cancel": by_command,
}
# The control socket is opened with the connection.
CASES = [(stage, way) for stage in STAGES for way in ("SIGINT", "migrate_cancel") if (stage, way) != (
    "connect", "migrate_cancel")] + [("iterate", "SIGTERM"), ("final", "SIGTERM"), ("ram-full", "godwit cancel")]


def check_cancelled(scene, migration, text):
    error = scene.check_failed(migration)
    assert error["class"] == "cancelled" and text in error["desc"], error
    assert migration.send.wait().report["status"] == "cancelled"
    return error


@pytest.mark.parametrize("stage, way", CASES)
def test_at_the_source(make_scene, stage, way):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault=f"hold@{stage}={HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    WAYS[way](migration.send)
    error = check_cancelled(scene, migration, "cancelled")
    assert error["stage"] == stage
    if stage in UNBOUND:
        check_waits_on(migration.receive, stage, "the source gave up: cancelled")
    else:
        received = migration.receive.wait(PATIENCE)
        assert received.code == 1 and "the source gave up: cancelled" in received.stderr
        assert received.report["status"] == "cancelled"
    scene.check_runs_on()
    scene.check_retry(there if stage in REUSABLE else None)


# The destination serves while the source is held before the stage.
@pytest.mark.parametrize("stage", STAGES[2:])
@pytest.mark.parametrize("way", ["SIGTERM", "migrate_cancel"])
def test_at_the_destination(make_scene, stage, way):
    """It may not, once it has said that all is loaded: then it is the source's word that counts."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"},
                              fault=f"hold@{stage}={300 if stage == 'hand-over' else HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    WAYS[way](migration.receive)
    if stage == "hand-over":
        migration.complete(PATIENCE)
        scene.wait_gone()
        return
    check_cancelled(scene, migration, "destination: cancelled at the destination")
    received = migration.receive.wait(PATIENCE)
    assert received.code == 1 and received.report["status"] == "cancelled"
    scene.check_runs_on()
    scene.check_retry(there if stage in REUSABLE else None)


@pytest.mark.parametrize("stage", SERVED)
def test_the_destination_fails(make_scene, stage):
    """Its reason is in the source's words."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault=f"fail-destination@{stage}")
    error = scene.check_failed(migration)
    assert error["stage"] == stage
    assert error["desc"] == f"destination: a fault was planned for stage '{stage}'"
    assert migration.receive.wait(PATIENCE).code == 1
    scene.check_runs_on()
    scene.check_retry(there if stage in REUSABLE else None)


@pytest.mark.parametrize("stage", STAGES)
def test_the_source_fails(make_scene, stage):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault=f"fail@{stage}")
    error = scene.check_failed(migration)
    assert error["stage"] == stage and error["desc"] == f"a fault was planned for stage '{stage}'"
    if stage in UNBOUND:
        check_waits_on(migration.receive, stage, f"the source gave up: {error['desc']}")
    else:
        received = migration.receive.wait(PATIENCE)
        assert received.code == 1 and f"the source gave up: {error['desc']}" in received.stderr
    scene.check_runs_on()
    scene.check_retry(there if stage in REUSABLE else None)


def test_before_anybody_has_come(make_scene):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault=f"hold@connect={HOLD}")
    migration.send.wait_event(event="stage", stage="connect")  # else a signal finds a program that has barely begun
    over_control(migration.receive)
    received = migration.receive.wait(PATIENCE)
    assert received.code == 1 and received.report["status"] == "cancelled"
    migration.send.signal(signal.SIGINT)
    check_cancelled(scene, migration, "cancelled")
    scene.check_runs_on()
    scene.check_retry(there)


@pytest.mark.parametrize("way", list(WAYS))
def test_too_late(make_scene, way):
    """After hand-over nobody can call it back: the migration completes."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault="hold@run=300")
    migration.send.wait_event(event="stage", stage="run")
    WAYS[way](migration.send)
    migration.complete(PATIENCE)
    scene.wait_gone()
    assert there.qmp.status() == "running" and scene.source.qmp.status() == scene.left()


@pytest.mark.parametrize("stage", ["final", "device"])
def test_real(make_real, stage):
    scene = make_real()
    migration = scene.migrate(scene.spare(), fault=f"hold@{stage}={HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    over_control(migration.send)
    check_cancelled(scene, migration, "cancelled")
    scene.check_runs_on()
    scene.check_retry()


@BY_MIGRATE
def test_paused_guest_stays_paused(make_scene):
    scene = make_scene()
    scene.source.qmp.execute("stop")
    migration = scene.migrate(scene.spare(), fault=f"hold@iterate={HOLD}")
    migration.send.wait_event(event="stage", stage="iterate")
    migration.send.signal(signal.SIGINT)
    sent = migration.send.wait(PATIENCE)
    assert sent.code == 1 and "the guest stays at the source" in sent.stderr
    scene.wait_gone()
    scene.before.check()
    assert scene.source.qmp.status() == "paused"
    scene.source.qmp.execute("cont")
    scene.check_runs_on()


def godwit(*words):
    return subprocess.run([places.godwit(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=PATIENCE, check=False)


def test_status_and_set(make_scene):
    """The small clients of --control, and what is refused over it; the migration does not mind."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"}, fault="hold@iterate=2000")
    migration.send.wait_event(event="stage", stage="iterate")
    path = migration.send.control_path
    shown = godwit("status", "--control", path)
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["stage"] == "iterate"
    done = godwit("set", "--control", path, "max-bandwidth=1gbit", "downtime-limit=2s", "max-cpu-throttle=30%")
    assert done.returncode == 0 and [line.split() for line in done.stdout.splitlines()] == [
        ["downtime-limit", "2s"], ["max-bandwidth", "1gbit/s"], ["max-cpu-throttle", "30%"]], done
    assert godwit("set", "--control", path, "max-bandwidth=300M", "downtime-limit=500").returncode == 0
    people = godwit("status", "--control", path, "--text")
    assert people.returncode == 0 and "(iterate)" in people.stdout, people
    assert re.search(r"^  max-bandwidth +300M/s$", people.stdout, re.M), people.stdout
    assert re.search(r"^  link-timeout +10s$", people.stdout, re.M), people.stdout
    for wrong, why in (("downtime-limit=-1", "0..2000000 ms; for example 300, 300ms or 2s"),
                       ("max-bandwidth=1gbps", "0 or more bytes/s; for example 1gbit"), ("channels=2", "cannot be changed"),
                       ("no-such=1", "no parameter")):
        refused = godwit("set", "--control", path, wrong)
        assert refused.returncode == 1 and why in refused.stderr, refused
    for wrong in (["status"], ["set", "--control", path], ["set", "--control", path, "x"], ["cancel", "x"]):
        assert godwit(*wrong).returncode == 2, wrong
    with migration.send.control() as control:
        values = control.execute("query-migrate-parameters")
        assert values["max-bandwidth"] == 300 << 20 and values["downtime-limit"] == 500
        with pytest.raises(QmpError, match="has not been found"):
            control.execute("stop")
    migration.complete(PATIENCE)
    assert godwit("status", "--control", path).returncode == 1
