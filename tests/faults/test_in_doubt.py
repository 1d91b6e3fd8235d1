# SPDX-License-Identifier: Apache-2.0
"""A break inside the hand-over: both guests are paused, never two of them run, and the operator is told what to do."""
import signal

import pytest

from monitor import Rule
from scene import PATIENCE, wait_until

HOLD = 60000


def states(scene, there):
    return scene.source.qmp.status(), there.qmp.status()


def check_in_doubt(scene, migration, there):
    sent = migration.send.wait(PATIENCE)
    assert sent.code == 3, sent
    assert sent.report["status"] == "in-doubt" and sent.report["error"]["stage"] == "run"
    assert "Look there first" in sent.stderr and "'godwit resolve --take-back' here takes the guest back" in sent.stderr
    assert "runs on at the source" not in sent.stderr
    scene.wait_gone()
    assert states(scene, there) == (scene.left(), "paused")
    scene.before.check()


def check_taken_back(scene, there):
    """What the operator was told to do works: first the destination's QEMU is ended, then the guest is taken back."""
    there.stop()
    scene.source.qmp.execute("cont")
    assert scene.source.qmp.status() == "running"
    scene.check_runs_on()


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_receive_is_killed_as_it_is_asked_to_run(request, make):
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault="kill-destination@run")
    check_in_doubt(scene, migration, there)
    check_taken_back(scene, there)
    scene.check_retry()


def check_given_back(scene, migration):
    """The destination has said that it never runs the guest: nobody has to do anything, it runs on at the source."""
    sent = migration.send.wait(PATIENCE)
    assert sent.code == 1 and sent.report["status"] == "failed", sent
    assert "the destination will never run the guest: " in sent.report["error"]["desc"], sent
    received = migration.receive.wait(PATIENCE)
    assert received.code == 1 and received.report["status"] == "failed", received
    assert "does not run here and never will; end this VMM" in received.stderr
    scene.check_runs_on()


def test_the_destination_fails_to_run(make_scene):
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault="fail-destination@run")
    check_given_back(scene, migration)
    assert there.qmp.status() == "paused"
    there.stop()
    scene.check_retry()


def test_the_destination_refuses_to_run(make_real):
    """`cont` is refused by its QEMU's monitor: it answers, and the guest does not run there."""
    scene = make_real()
    there = scene.spare()
    migration = scene.migrate(there, there_monitor=scene.watch(there, Rule("cont", nth=0)))
    check_given_back(scene, migration)
    assert there.qmp.status() == "paused"


def test_what_ran_there_before_was_not_this_guest(make_real):
    """Only a RESUME behind the source's word counts: it is asked to run, refuses, and the guest is given back."""
    events = b"".join(b'{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "%s"}\r\n' % name
                      for name in (b"RESUME", b"STOP"))
    scene = make_real()
    there = scene.spare()
    monitor = scene.watch(there, Rule("cont", nth=0), rewrite=lambda line: (
        events + line if b'"MIGRATION"' in line and b'"completed"' in line else line))
    check_given_back(scene, scene.migrate(there, there_monitor=monitor))
    assert states(scene, there) == ("running", "paused")


def check_it_is_there(scene, there, rule, rewrite=None):
    migration = scene.migrate(there, there_monitor=scene.watch(there, rule, rewrite=rewrite))
    sent, received = migration.send.wait(PATIENCE), migration.receive.wait(PATIENCE)
    assert sent.code == 0 and received.code == 0, (sent, received)
    assert states(scene, there) == (scene.left(), "paused")
    return received


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_the_guest_stops_by_itself_as_soon_as_it_runs_there(request, make):
    """It has run there, however short: its disks have changed, and the source must not take its old copy back."""
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    check_it_is_there(scene, there, Rule("cont", hang=True, does="stop"))


def test_the_guest_stops_there_since_each_of_many_requests_fails(make_real):
    """All of them are told of before `cont` is answered, and must not push out that it has run."""
    error = (b'{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "BLOCK_IO_ERROR", "data": {"device": "", '
             b'"node-name": "disk", "operation": "write", "action": "stop", "nospace": false, "reason": "gone"}}\r\n')
    scene = make_real()
    check_it_is_there(scene, scene.spare(), Rule("cont", hang=True, does="stop"),
                      lambda line: line + b"\n" + 100 * error if b'"RESUME"' in line else line)


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_the_guest_has_run_there_whatever_its_vmm_says(request, make):
    """Each `cont` is answered with an error, and the guest has run for a moment all the same."""
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    received = check_it_is_there(scene, there, Rule("cont", nth=0, does="stop"))
    assert "but the guest has run here, and has stopped by itself since: look at this VMM" in received.stderr


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_the_link_is_cut_after_hand_over(request, hosts, make):
    scene = request.getfixturevalue(make)(hosts)
    there = scene.spare()
    migration = scene.migrate(there, {"link-timeout": 2}, fault=f"hold@run={HOLD}")
    migration.send.wait_event(event="stage", stage="run")
    hosts.cut()
    received = migration.receive.wait(PATIENCE)
    assert received.code == 3 and received.report["status"] == "in-doubt", received
    assert "Look at the source" in received.stderr
    check_in_doubt(scene, migration, there)
    # The other way out: it was decided that the destination has it.
    there.qmp.execute("cont")
    assert states(scene, there) == (scene.left(), "running")
    if hasattr(there, "stats"):
        scene.check_works(there)


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_send_is_killed_after_hand_over(request, make):
    """The guardian puts the settings back and leaves the guest stopped: it must not run here any more."""
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    migration = scene.migrate(there, fault="kill-source@run")
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    scene.wait_gone()
    with open(migration.send.events_path.replace("events", "stderr"), encoding="utf-8") as file:
        assert "the guest was handed over and stays paused at the source" in file.read()
    received = migration.receive.wait(PATIENCE)
    assert received.code == 3 and received.report["status"] == "in-doubt", received
    assert states(scene, there) == (scene.left(), "paused")
    scene.before.check()


def test_send_is_killed_before_hand_over_with_all_loaded(make_scene):
    """The source takes its guest back; the destination cannot know, and does not run it."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault="kill-source@hand-over")
    migration.send.wait(PATIENCE)
    scene.check_runs_on()
    assert migration.receive.wait(PATIENCE).code == 3
    assert there.qmp.status() == "paused"


def test_the_goodbye_is_lost(make_scene):
    """The guest runs at the destination, and that is all that counts."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault="kill-source@detach")
    migration.send.wait(PATIENCE)
    received = migration.receive.wait(PATIENCE)
    assert received.code == 0 and received.report["status"] == "completed", received
    scene.wait_gone()
    assert states(scene, there) == (scene.left(), "running")
    scene.before.check()
    scene.check_works(there)


def test_the_destination_vmm_dies_as_it_is_asked_to_run(make_scene):
    scene = make_scene()
    there = scene.spare(options=("--die", "cont"))
    check_given_back(scene, scene.migrate(there))
    wait_until(lambda: not there.alive(), "the destination has died")
    scene.check_retry()
