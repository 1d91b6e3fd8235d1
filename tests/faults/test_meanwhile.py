# SPDX-License-Identifier: Apache-2.0
"""What somebody does to the guest while it is moved: devices come and go, a backup begins, a snapshot is taken. The guest
runs on at the source with what it has by then. Seen before the stop, the destination stays of use."""
import pytest

from gwtest import engine as gw
from scene import PATIENCE
from test_refusals import check_send_refused
from test_same_guest import disk, make_image

USB = ["-device", "qemu-xhci,id=usb", "-device", "usb-tablet,id=tab"]


def unplug(guest):
    guest.qmp.execute("device_del", id="tab")
    guest.qmp.wait_event("DEVICE_DELETED", device="tab")


def plug(guest):
    guest.qmp.execute("device_add", driver="usb-kbd", id="kbd")


def snapshot(guest):
    guest.qmp.execute("blockdev-snapshot-sync", {"node-name": "n0", "snapshot-file": guest.home + "/over.qcow2",
                                                 "format": "qcow2", "snapshot-node-name": "n1"})


def backup(guest):
    """One that takes for ever."""
    guest.qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "to", "size": 8 << 20})
    guest.qmp.execute("blockdev-backup", {"job-id": "night", "device": "n0", "target": "to", "sync": "full",
                                          "speed": 1})


HAPPENS = {
    "unplugged": (unplug, ["unplugged from the guest meanwhile: tab usb-tablet"]),
    "plugged": (plug, ["plugged into the guest meanwhile: kbd usb-kbd"]),
    "snapshot": (snapshot, ["the image behind the disk vd was changed meanwhile"]),
    "backup": (backup, ['a job works on the guest\'s disks: backup "night"']),
}


def make(make_real, shm):
    image = make_image(f"{shm}/base.qcow2")
    scene = make_real(extra=USB + disk(image))
    scene.source.home = shm
    return scene


def check_meanwhile(scene, stage, happens, words):
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"}, fault=f"hold@{stage}=1500")
    migration.send.wait_event(event="stage", stage=stage)
    happens(scene.source)
    error = scene.check_failed(migration)
    assert error["class"] == "refused", error
    for word in words:
        assert word in error["desc"], error
    assert scene.source.qmp.status() == "running"
    return there, error


@pytest.mark.parametrize("what", list(HAPPENS))
def test_before_the_stop(make_real, shm, what):
    """The destination's VMM has not begun to load: it can be used for another attempt."""
    scene = make(make_real, shm)
    there, error = check_meanwhile(scene, "iterate", *HAPPENS[what])
    assert error["stage"] == "iterate", error
    assert there.qmp.status() == "inmigrate"
    assert there.qmp.execute("query-migrate").get("status") is None


@pytest.mark.parametrize("what", ["unplugged", "plugged", "snapshot"])
def test_at_the_last_moment(make_real, shm, what):
    """After the long look, before the guest stops."""
    _, error = check_meanwhile(make(make_real, shm), "stop", *HAPPENS[what])
    assert error["stage"] == "final", error


def test_a_job_that_runs(make_bare, shm):
    source = make_bare(name="source", extra=disk(make_image(f"{shm}/base.qcow2")))
    spare = make_bare(name="spare", extra=disk(f"{shm}/base.qcow2"), incoming=True)
    backup(source)
    check_send_refused(source, spare, 'a job works on the guest\'s disks: backup "night"', "job-cancel")


def test_a_bitmap_that_stays_behind(make_bare, shm):
    source = make_bare(name="source", extra=disk(make_image(f"{shm}/base.qcow2")))
    for name, persistent in (("kept", True), ("lost", False)):
        source.qmp.execute("block-dirty-bitmap-add", node="n0", name=name, persistent=persistent)
    with gw.Migration(source, make_bare(name="there", extra=disk(f"{shm}/base.qcow2"), incoming=True)) as migration:
        migration.complete(PATIENCE)
        said = migration.send.wait(PATIENCE).stderr
    assert 'the dirty bitmap "lost"' in said and "kept" not in said, said
