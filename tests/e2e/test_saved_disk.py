# SPDX-License-Identifier: Apache-2.0
"""device-state=save and the guest's disks: saving gives them up, `cont` takes them back. A real guest writes blocks, reads
them back and checks them, all the while; image locks are on."""
import subprocess

import pytest

from gwtest import blocks, engine as gw, silence
from gwtest.qemu import MIB
from scene import PATIENCE

pytestmark = pytest.mark.usefixtures("engine")

SAVE = {"device-state": "save"}
STAGES = ["attach", "iterate", "stop", "final", "device", "load", "hand-over"]
RAM = {"raw": ["-machine", "pc", "-m", "192M"], "qcow2": None}  # of the process alone; a shared file


def is_locked(image):
    """Whether somebody has it open for writing: then nobody else can open it so. It is not written to."""
    result = subprocess.run(["qemu-io", "-f", "raw", "-c", "quit", image], capture_output=True, text=True, check=False)
    assert result.returncode == 0 or "lock" in result.stderr, result
    return result.returncode != 0


@pytest.fixture(params=list(RAM))
def kind(request):
    return request.param


@pytest.fixture
def pair(make_guest, shm, kind):
    """The guest, its image, and what starts a destination for it."""
    image = f"{shm}/image"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, image, "64M"], check=True)
    extra = ["-blockdev", f"driver={kind},node-name=n0,file.driver=file,file.filename={image},file.locking=on", "-device", "virtio-blk-pci,drive=n0,id=vd0"]
    guest = make_guest(memory=192 * MIB, memory_args=RAM[kind], extra=extra,
                       load={"mem": 60, "rate": 4000, "disk": 1, "diskread": 1})
    guest.wait_ready()
    count = iter(range(100))
    return guest, image, lambda: make_guest.destination(guest, name=f"there{next(count)}")


def check_goes_on(guest):
    """It writes to its disk, and nothing that it reads is wrong."""
    before = guest.serial.wait_ticks(1)
    after = guest.serial.wait_ticks(60)
    assert after.disk_ops > before.disk_ops and after.errors == 0 and guest.serial.errors() == []


def test_written_across(pair, kind):
    guest, image, make_there = pair
    there = make_there()
    assert is_locked(image)
    with gw.Migration(guest, there, settings={**SAVE, "autostart": "off"}) as migration:
        migration.complete(PATIENCE)
    assert not is_locked(image), "the source has given it up, and the destination takes it when it runs"
    assert blocks.compare(guest, there) == {}
    there.qmp.execute("cont")
    check_goes_on(there)
    assert is_locked(image) and guest.qmp.status() == "paused"
    found = silence.measure(guest.serial, there.serial)
    assert found.errors == [] and found.errors_counted == 0 and found.jumps == []
    there.qmp.execute("quit")
    there.wait_gone()
    if kind == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", image], check=True)


def test_called_off_at_every_stage(pair):
    """One after the other, and each time it runs on with its disk; the attempt behind them succeeds."""
    guest, image, make_there = pair
    for stage in STAGES:
        there = make_there()
        with gw.Migration(guest, there, settings=SAVE, fault=f"fail@{stage}") as migration:
            sent = migration.send.wait(PATIENCE)
            assert sent.code == 1 and "the guest runs on at the source, unchanged" in sent.stderr, (stage, sent)
            migration.receive.wait(PATIENCE)
        there.stop()
        assert guest.qmp.status() == "running" and is_locked(image), stage
        check_goes_on(guest)
    there = make_there()
    with gw.Migration(guest, there, settings=SAVE) as migration:
        migration.complete(PATIENCE)
    check_goes_on(there)


@pytest.mark.parametrize("way", ["save", "migrate"])
def test_arrived_paused_it_leaves_again(pair, way):
    """It has not taken its disks: a QEMU before 10.0 would end in giving them up, and the guest with it. So it has to run."""
    guest, _, make_there = pair
    there, third = make_there(), make_there()
    with gw.Migration(guest, there, settings={"device-state": way, "autostart": "off"}) as migration:
        migration.complete(PATIENCE)
    guest.stop()
    with gw.Migration(there, third) as migration:
        sent = migration.send.wait(PATIENCE)
    if there.qmp.execute("query-version")["qemu"]["major"] >= 10:
        assert sent.code == 0 and third.qmp.status() == "paused", sent
        third.qmp.execute("cont")
        check_goes_on(third)
        return
    assert sent.code == 1 and sent.report["error"]["class"] == "refused", sent
    assert "the guest came here by a migration and is paused" in sent.report["error"]["desc"]
    assert there.qmp.status() == "paused"
    there.qmp.execute("cont")
    check_goes_on(there)
    third.stop()
    third = make_there()
    with gw.Migration(there, third) as migration:
        migration.complete(PATIENCE)
    check_goes_on(third)


def test_to_and_fro(pair):
    """What arrived by it leaves by it."""
    guest, _, make_there = pair
    for _ in range(4):
        there = make_there()
        with gw.Migration(guest, there, settings={**SAVE, "source-quit": "on"}) as migration:
            migration.complete(PATIENCE)
        guest.wait_gone()
        guest = there
    check_goes_on(guest)


@pytest.mark.parametrize("kind", ["qcow2"], indirect=True)
def test_a_persistent_bitmap(pair):
    """Giving the image up stores it there; no migration of QEMU's is needed for that."""
    guest, _, make_there = pair
    guest.qmp.execute("block-dirty-bitmap-add", node="n0", name="kept", persistent=True)
    check_goes_on(guest)
    there = make_there()
    with gw.Migration(guest, there, settings=SAVE) as migration:
        migration.complete(PATIENCE)
    drives = there.qmp.execute("query-block")
    found = [b for d in drives for b in d.get("inserted", {}).get("dirty-bitmaps", [])]
    assert [(b["name"], b["persistent"], b["count"] > 0) for b in found] == [("kept", True, True)]
    check_goes_on(there)
