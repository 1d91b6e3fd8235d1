# SPDX-License-Identifier: Apache-2.0
"""`godwit resolve` and the next engine read what dead ones left: the ledger of each side."""
import glob
import os
import signal

import pytest

from scene import BY_MIGRATE, PATIENCE, processes_of, resolve, wait_until

HOLD = 60000


def ledger_of(guest):
    """The file, or None."""
    found = glob.glob(f"{os.environ.get('GODWIT_RUN', '/run/godwit')}/{guest.pid}-*")
    return found[0] if found else None


def kill_side(engine, guest):
    """The engine and its guardian at once, so that nobody is left."""
    guardian = [pid for pid, name in processes_of(guest.qmp_path).items() if name == "godwit guardian"]
    assert len(guardian) == 1, "no guardian"
    os.kill(guardian[0], signal.SIGKILL)
    engine.kill()
    wait_until(lambda: not processes_of(guest.qmp_path), "both are gone")


def limits(guest):
    """What a user may have set, and godwit changes."""
    found = guest.qmp.execute("query-migrate-parameters")
    return found["max-bandwidth"], found["downtime-limit"]


def set_limits(guest):
    guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 77 << 20, "downtime-limit": 777})


@BY_MIGRATE
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("make", ["make_scene", "make_real"])
@pytest.mark.parametrize("stage", ["iterate", "final"])
def test_what_was_set_is_known(request, make, stage):
    """Not QEMU's defaults: what it had."""
    scene = request.getfixturevalue(make)()
    set_limits(scene.source)
    migration = scene.migrate(scene.spare(), fault=f"hold@{stage}={HOLD}")
    migration.send.wait_event(event="stage", stage=stage)
    kill_side(migration.send, scene.source)
    os.unlink(migration.send.control_path) if os.path.exists(migration.send.control_path) else None
    assert ledger_of(scene.source)
    assert limits(scene.source) != (77 << 20, 777)
    done = resolve(scene.source)
    assert done.returncode == 0 and done.stdout == "the guest runs\n", done
    assert "on record" in done.stderr
    assert limits(scene.source) == (77 << 20, 777)
    assert ledger_of(scene.source) is None


def test_the_next_engine_undoes_first(make_scene):
    scene = make_scene()
    set_limits(scene.source)
    migration = scene.migrate(scene.spare(), fault=f"hold@final={HOLD}")
    migration.send.wait_event(event="stage", stage="final")
    kill_side(migration.send, scene.source)
    assert scene.source.qmp.status() != "running"
    again = scene.migrate(scene.spare(), fault="fail@ram-full")
    failed = again.send.wait(PATIENCE)
    assert failed.code == 1 and "an earlier godwit and its guardian died here" in failed.stderr, failed
    assert scene.source.qmp.status() == "running" and limits(scene.source) == (77 << 20, 777)
    scene.check_retry()


def in_doubt(scene, there):
    """Handed over, and the destination was never asked: both paused."""
    migration = scene.migrate(there, fault="kill-source@run")
    migration.send.wait(PATIENCE)
    scene.wait_gone()
    assert migration.receive.wait(PATIENCE).code == 3
    wait_until(lambda: not processes_of(there.qmp_path), "the receiver and its guardian are gone")
    assert (scene.source.qmp.status(), there.qmp.status()) == (scene.left(), "paused")


@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_the_destination_gets_it(request, make):
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    in_doubt(scene, there)
    told = resolve(there)
    assert told.returncode == 1 and "not known whether the source has handed it over" in told.stderr, told
    told = resolve(scene.source)
    assert told.returncode == 1 and "the guest was handed over and may run at the destination" in told.stderr, told
    # each is refused what is the other's to do
    assert resolve(scene.source, "--run").returncode == 1
    assert resolve(there, "--take-back").returncode == 1
    # the next migration does not help itself
    refused = scene.migrate(scene.spare()).send.wait(PATIENCE)
    assert refused.code == 1 and "'godwit resolve' says what to do" in refused.stderr, refused
    assert (scene.source.qmp.status(), there.qmp.status()) == (scene.left(), "paused")
    done = resolve(there, "--run")
    assert done.returncode == 0 and done.stdout == "the guest runs\n", done
    assert (scene.source.qmp.status(), there.qmp.status()) == (scene.left(), "running")
    # and again: nothing more to do
    assert resolve(there).returncode == 0 and resolve(there, "--run").returncode == 0
    assert there.qmp.status() == "running"


def test_the_source_gets_it_back(make_scene):
    scene = make_scene()
    there = scene.spare()
    in_doubt(scene, there)
    there.stop()
    done = resolve(scene.source, "--take-back")
    assert done.returncode == 0 and done.stdout == "the guest runs\n", done
    scene.check_runs_on()
    assert ledger_of(scene.source) is None
    scene.check_retry()


def test_a_guest_that_ran_there_is_not_taken_back(make_scene):
    """Its disks have changed since: this copy is too old."""
    scene = make_scene()
    there = scene.spare()
    scene.migrate(there).complete(PATIENCE)
    there.stop()
    refused = resolve(scene.source, "--take-back")
    assert refused.returncode == 1 and "has run at its destination" in refused.stderr, refused
    assert scene.source.qmp.status() == scene.left()


def test_never_is_kept(make_scene):
    """The destination has said that the guest never runs there: nobody runs it there by the book any more."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault="fail-destination@run")
    migration.send.wait(PATIENCE)
    migration.receive.wait(PATIENCE)
    wait_until(lambda: not processes_of(there.qmp_path), "the receiver and its guardian are gone")
    refused = resolve(there, "--run")
    assert refused.returncode == 1 and "never runs here" in refused.stderr, refused
    assert there.qmp.status() == "paused"


@pytest.mark.parametrize("stage", ["attach", "run"])
def test_receive_is_killed(make_scene, stage):
    """Its guardian leaves the VMM paused, and says on record how far it came."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, receive_fault=f"kill-destination@{stage}")
    migration.send.wait(PATIENCE)
    assert migration.receive.wait(PATIENCE).code == -signal.SIGKILL
    wait_until(lambda: not processes_of(there.qmp_path), "its guardian is gone")
    assert not os.path.exists(migration.receive.control_path), "its control socket was left"
    assert there.qmp.status() != "running"
    with open(migration.receive.events_path.replace("events", "stderr"), encoding="utf-8") as file:
        said = file.read()
    told = resolve(there)
    if stage == "run":
        assert "not known whether the source has handed it over" in said
        assert told.returncode == 1 and "--run here lets it run" in told.stderr, told
    else:
        assert "the guest was not taken over" in said
        assert resolve(there, "--run").returncode == 1
    assert there.qmp.status() != "running"


def test_a_full_disk_before_the_hand_over(make_scene):
    """The ledger cannot be written: the guest runs on at the source."""
    scene = make_scene()
    migration = scene.migrate(scene.spare(), fault="ledger-full@nobody")
    error = scene.check_failed(migration)
    assert error["stage"] == "hand-over" and "No space left on device" in error["desc"], error
    scene.check_runs_on()
    scene.check_retry()


def test_a_ledger_of_another_version(make_scene):
    scene = make_scene()
    migration = scene.migrate(scene.spare(), fault=f"hold@iterate={HOLD}")
    migration.send.wait_event(event="stage", stage="iterate")
    kill_side(migration.send, scene.source)
    path = ledger_of(scene.source)
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\x07")
    for said in (resolve(scene.source).stderr, scene.migrate(scene.spare()).send.wait(PATIENCE).stderr):
        assert "was written by another version of godwit (version 7" in said and path in said
    os.unlink(path)
    assert resolve(scene.source).returncode == 0
    os.unlink(migration.send.control_path)
    scene.check_runs_on()
