# SPDX-License-Identifier: Apache-2.0
"""Behind the last scan nobody writes the guest's memory: that is looked at, and not only believed."""
from gwtest import oracle
from scene import PATIENCE


def test_a_device_that_writes_while_its_state_is_saved(make_scene):
    scene = make_scene(options=("--write-late", 3))
    migration = scene.migrate(scene.spare())
    error = scene.check_failed(migration)
    assert error["stage"] == "device" and error["class"] == "vmm", error
    assert "3 pages of the guest's RAM were written while it stood still" in error["desc"], error
    assert "RAM ram0, address 0x" in error["desc"], error
    late = next(e for e in migration.send.events() if e["event"] == "written-late")
    assert late["pages"] == 3 and sum(r["pages"] for r in late["runs"]) == 3
    assert all(r["block"] == "ram0" and r["address"] % 4096 == 0 and r["address"] > 0 for r in late["runs"]), late
    assert migration.receive.wait(PATIENCE).code == 1
    scene.check_runs_on()


def test_pages_that_hold_what_was_sent(make_scene):
    """What the scan finds need not have been written, or not with anything new: it is compared."""
    scene = make_scene(options=("--rewrite-late", 3000, "--fill", 60))
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"})
    migration.complete(PATIENCE)
    assert not [e for e in migration.send.events() if e["event"] == "written-late"]
    assert oracle.compare_ram(scene.source, there) == {}


def test_nothing_is_found_where_nothing_was_written(make_real):
    """A real QEMU keeps to it."""
    scene = make_real()
    migration = scene.migrate(scene.spare())
    migration.complete(PATIENCE)
    assert not [e for e in migration.send.events() if e["event"] == "written-late"]
