# SPDX-License-Identifier: Apache-2.0
"""A move with each tracker that a kernel has: equal, and the guest in one place. With what else is marked `kernels`
(godwits killed, cables pulled) this is what `make test-kernels` asks of a kernel."""
import pytest

from gwtest import blocks, oracle
from gwtest.qemu import MIB, Backend
from scene import PATIENCE, TRACKERS, wait_until

STOPPED = ["postmigrate", "paused"]  # by the way in which the device state went
pytestmark = [pytest.mark.kernels, pytest.mark.parametrize("tracker", TRACKERS)]


def move(scene, there, tracker):
    """Moves it while it writes, and the destination stays paused."""
    report = scene.migrate(there, {"tracker": tracker, "autostart": "off"}).complete(PATIENCE)
    assert report["tracker"] == tracker
    assert scene.source.qmp.status() in STOPPED and there.qmp.status() == "paused"
    scene.wait_gone()


def check_runs_there(scene, there):
    """It runs at the destination, and there only."""
    there.qmp.execute("cont")
    wait_until(lambda: there.qmp.status() == "running", "the guest runs")
    assert scene.source.qmp.status() in STOPPED


def check_stunt(scene, there, tracker):
    move(scene, there, tracker)
    assert oracle.compare_ram(scene.source, there) == {}
    check_runs_there(scene, there)
    scene.check_works(there)


def test_file(make_scene, tracker):
    scene = make_scene(load="zipf,rate=60M", memory=96 * MIB)
    check_stunt(scene, scene.spare(), tracker)


def test_private(make_scene, tracker):
    """Anonymous memory, of which the load touches some for the first time as it goes."""
    own = [Backend("ram0", 96 * MIB, None)]
    scene = make_scene(load="uniform,rate=20M", backends=own, fill=50)
    check_stunt(scene, scene.spare(backends=own), tracker)


def test_huge_pages(hugepages, make_scene, tracker):  # they can be given back only when no guest has them
    directory = hugepages(128 * MIB).directory
    backend = [Backend("ram0", 64 * MIB, f"{directory}/source")]
    scene = make_scene(backends=backend, load="uniform,rate=200K")  # a write makes 2 MiB of work
    check_stunt(scene, scene.spare(backends=[backend[0]._replace(path=f"{directory}/there")]), tracker)


@pytest.mark.parametrize("ram", ["file", "private"])
def test_qemu(make_real, tracker, ram):
    """A QEMU with its firmware, which runs at the source meanwhile. All its memory, its own included."""
    memory = {"memory_args": ["-machine", "pc", "-m", "64M"]} if ram == "private" else {}
    scene = make_real(**memory)
    there = scene.spare(**memory)
    move(scene, there, tracker)
    assert blocks.compare(scene.source, there) == {}
    check_runs_there(scene, there)
