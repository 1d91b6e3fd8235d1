# SPDX-License-Identifier: Apache-2.0
"""The cable is pulled at every stage before hand-over: both sides notice by themselves, and the guest runs on."""
import pytest

from scene import BOTH_WAYS, PATIENCE, REUSABLE, STAGES, TRACKED, TRACKERS, UNBOUND, check_waits_on, wait_until

CASES = [(s, "auto") for s in STAGES if s not in TRACKED] + [("ram-full", t) for t in TRACKERS] + \
        [(s, "auto") for s in TRACKED[1:]]
# By our own pings, or by the kernel where something was on its way.
NOTICED = ["silent for 2 s: the network is cut or it hangs", "Network is unreachable", "Connection timed out"]
HOLD = 60000  # ms; a broken link ends it


def hold(stage):
    # Nothing listens to the link yet while it connects.
    return f"hold@{stage}={300 if stage == 'connect' else HOLD}"


def cut_at(scene, there, stage, **settings):
    # The destination has the source's wish from `inspect` on.
    migration = scene.migrate(there, {"link-timeout": 2, **settings}, fault=hold(stage),
                              receive_settings={"link-timeout": 2} if stage == "inspect" else None)
    migration.send.wait_event(event="stage", stage=stage)
    scene.hosts.cut()
    return migration


def check_cut(scene, migration, stage):
    error = scene.check_failed(migration)
    assert error["stage"] == stage and error["class"] == "link", error
    if stage == "connect":
        assert "cannot connect" in error["desc"], error
    else:
        assert any(words in error["desc"] for words in NOTICED), error
    if stage in UNBOUND:
        check_waits_on(migration.receive, stage, "silent for 2 s")
    else:
        received = migration.receive.wait(PATIENCE)
        assert received.code == (3 if stage == "hand-over" else 1), received
        assert any(words in received.report["error"]["desc"] for words in NOTICED), received
    scene.check_runs_on()
    scene.hosts.heal()


@BOTH_WAYS
@pytest.mark.parametrize("stage, tracker", CASES)
def test_while_it_waits(make_scene, hosts, stage, tracker):
    scene = make_scene(hosts)
    there = scene.spare(netns=hosts.b.netns)
    check_cut(scene, cut_at(scene, there, stage, tracker=tracker), stage)
    scene.check_retry(there if stage in REUSABLE else None)


@BOTH_WAYS
@pytest.mark.parametrize("stage", ["stop", pytest.param("final", marks=pytest.mark.kernels), "device", "hand-over"])
def test_real(make_real, hosts, stage):
    scene = make_real(hosts)
    check_cut(scene, cut_at(scene, scene.spare(), stage), stage)
    scene.check_retry()


@pytest.mark.kernels
@pytest.mark.parametrize("tracker", TRACKERS)
def test_while_ram_is_on_its_way(make_scene, hosts, tracker):
    hosts.rate(80 * 10**6)
    scene = make_scene(hosts)
    there = scene.spare()
    settings = {"link-timeout": 2, "tracker": tracker, "compression": "none"}
    migration = scene.migrate(there, settings)
    with migration.send.control() as control:
        control.wait_until(lambda c: c.execute("query-migrate")["ram"]["normal"] > 500)
    hosts.cut()
    check_cut(scene, migration, "ram-full")
    hosts.rate(None)
    scene.check_retry(there)


@pytest.mark.parametrize("stage", ["stop", "device"])
def test_while_the_device_state_is_on_its_way(make_scene, hosts, stage):
    """Half of it goes before the guest stops, half after; the VMM writes it into a relay that is cut off."""
    scene = make_scene(hosts, options=("--device-bytes", "64M"))
    there = scene.spare()
    migration = scene.migrate(there, {"link-timeout": 2}, fault=f"hold@{stage}=300")
    migration.send.wait_event(event="stage", stage=stage)
    hosts.rate(80 * 10**6)
    sent = hosts.a.counters()[0]
    wait_until(lambda: hosts.a.counters()[0] > sent + (1 << 20), "some of it has left")
    hosts.cut()
    check_cut(scene, migration, stage)
    hosts.rate(None)
    scene.check_retry()
