# SPDX-License-Identifier: Apache-2.0
"""A move with each tracker that a kernel has: equal, and the guest in one place. With what else is marked `kernels`
(godwits killed, cables pulled) this is what `make test-kernels` asks of a kernel."""
import pytest

from gwtest import oracle
from gwtest.qemu import MIB, Backend
from scene import PATIENCE, TRACKERS, wait_until

pytestmark = [pytest.mark.kernels, pytest.mark.parametrize("tracker", TRACKERS)]


def move(scene, tracker):
    """Moves it while it writes, and the destination stays paused. Returns the destination and the report."""
    there = scene.spare()
    report = scene.migrate(there, {"tracker": tracker, "autostart": "off"}).complete(PATIENCE)
    assert report["tracker"] == tracker
    assert oracle.compare_ram(scene.source, there) == {}
    assert scene.source.qmp.status() == "postmigrate" and there.qmp.status() == "paused"
    scene.wait_gone()
    return there, report


def check_runs_there(scene, there):
    """It runs at the destination, and there only."""
    there.qmp.execute("cont")
    wait_until(lambda: there.qmp.status() == "running", "the guest runs")
    assert scene.source.qmp.status() == "postmigrate"


@pytest.mark.parametrize("load", ["uniform,rate=20M", "zipf,rate=60M"])
def test_stunt(make_scene, tracker, load):
    scene = make_scene(load=load, memory=96 * MIB)
    there, report = move(scene, tracker)
    assert report["ram"]["dirty-sync-count"] > 1
    check_runs_there(scene, there)
    scene.check_works(there)


def test_stunt_on_huge_pages(hugepages, make_scene, tracker):  # they can be given back only when no guest has them
    directory = hugepages(128 * MIB).directory
    backend = [Backend("ram0", 64 * MIB, f"{directory}/source")]
    scene = make_scene(backends=backend, load="uniform,rate=200K")  # a write makes 2 MiB of work
    there = scene.spare(backends=[backend[0]._replace(path=f"{directory}/there")])
    scene.migrate(there, {"tracker": tracker, "autostart": "off"}).complete(PATIENCE)
    assert oracle.compare_ram(scene.source, there) == {}
    check_runs_there(scene, there)
    scene.check_works(there)


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_qemu(make_real, tracker, machine):
    """A QEMU with its firmware, which runs at the source meanwhile."""
    scene = make_real(machine=machine)
    there, _ = move(scene, tracker)
    check_runs_there(scene, there)
