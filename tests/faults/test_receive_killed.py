# SPDX-License-Identifier: Apache-2.0
"""`receive` is killed: its guardian leaves the destination's VMM stopped, and how far it came is on record."""
import os
import signal

import pytest

from scene import PATIENCE, SERVED, processes_of, wait_until, words_of

RUN = os.environ.get("GODWIT_RUN", "/run/godwit")
UNTOUCHED = ["attach", "iterate", "stop"]  # the VMM is not asked to load before the half of `stop`


def records(guest):
    """Files of what was done to a guest."""
    return [name for name in os.listdir(RUN) if name.startswith(f"{guest.pid}-")] if os.path.isdir(RUN) else []


def kill_at(scene, stage):
    there = scene.spare()
    before = there.qmp.execute("query-migrate-capabilities")
    migration = scene.migrate(there, receive_fault=f"kill-destination@{stage}")
    migration.send.wait(PATIENCE)
    assert migration.receive.wait(PATIENCE).code == -signal.SIGKILL
    wait_until(lambda: not processes_of(there.qmp_path), "the guardian of receive ends")
    assert not os.path.exists(migration.receive.control_path), "its control socket was left"
    return there, migration, before


@pytest.mark.parametrize("stage", SERVED[1:])
def test_before_all_is_loaded(make_scene, stage):
    """The source keeps its guest; nobody has anything to decide."""
    scene = make_scene()
    there, migration, before = kill_at(scene, stage)
    if stage in UNTOUCHED:
        assert there.qmp.status() == "inmigrate"
        assert there.qmp.execute("query-migrate-capabilities") == before
    else:
        wait_until(lambda: not there.alive(), "a VMM whose device state breaks off ends")
    assert "the engine died" in words_of(migration.receive)
    scene.check_runs_on()
    scene.check_retry(there if stage in UNTOUCHED else None)


def test_when_all_is_loaded(make_scene):
    """The source has handed the guest over: it runs nowhere, and the record is there for who has to decide."""
    scene = make_scene()
    there, _, _ = kill_at(scene, "run")
    assert there.qmp.status() == "paused"
    assert len(records(there)) == 1, "nobody could know how far it came"
    assert scene.source.qmp.status() == scene.left()
