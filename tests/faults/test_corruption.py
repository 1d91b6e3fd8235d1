# SPDX-License-Identifier: Apache-2.0
"""What arrives is not what left: nothing of it is placed, and the guest runs on at the source."""
import pytest

from scene import PATIENCE

# A guest that writes all the time, so that every pass has batches.
LOAD = "uniform,rate=60M"


@pytest.mark.parametrize("compression", ["none", "lz4", "auto"])
@pytest.mark.parametrize("first", [1, 2])
def test_a_batch(make_scene, compression, first):
    scene = make_scene(load=LOAD)
    there = scene.spare()
    migration = scene.migrate(there, {"compression": compression, "downtime-limit": 0},
                              fault=f"corrupt-batch={first}")
    error = scene.check_failed(migration)
    assert error["class"] == "corrupt" and error["desc"].startswith(f"destination: a batch of pass {first} "), error
    assert "damaged on its way" in error["desc"]
    received = migration.receive.wait(PATIENCE)
    assert received.code == 1 and received.report["error"]["class"] == "corrupt"
    scene.check_runs_on()
    scene.check_retry(there if error["stage"] in ("ram-full", "iterate") else None)


def test_the_reason_is_told_although_the_link_is_gone(make_scene):
    """The source looks at nothing while the destination says why it ends, and ends; what it does next fails for want of
    a connection, and that is not the reason."""
    scene = make_scene(memory=24 << 20, fill=10)
    there = scene.spare()
    migration = scene.migrate(there, {"channels": 1, "downtime-limit": 10000}, fault="corrupt-batch=1,deaf@iterate=2500",
                              receive_fault="decoder-delay@0=1500")
    error = scene.check_failed(migration)
    assert error["class"] == "corrupt", error
    scene.check_runs_on()
    scene.check_retry(there)


def test_real(make_real):
    scene = make_real()
    there = scene.spare()
    migration = scene.migrate(there, fault="corrupt-batch=1")
    error = scene.check_failed(migration)
    assert error["class"] == "corrupt" and "damaged on its way" in error["desc"]
    scene.check_runs_on()
    scene.check_retry(there if error["stage"] in ("ram-full", "iterate") else None)


def test_the_device_state_is_not_taken(make_scene):
    """The destination's VMM refuses what it loads: its end is told, and the source runs on."""
    scene = make_scene()
    there = scene.spare(options=("--fail-load",))
    migration = scene.migrate(there)
    error = scene.check_failed(migration)
    assert error["stage"] == "device" and error["desc"].startswith("destination: the destination QEMU "), error
    assert "look at its stderr or log for the reason" in error["desc"]
    assert migration.receive.wait(PATIENCE).code == 1
    scene.check_runs_on()
    scene.check_retry()
