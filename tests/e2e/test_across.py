# SPDX-License-Identifier: Apache-2.0
"""From one version of QEMU to another, and back, with the older one's machine type. GODWIT_OTHER_QEMU names the other."""
import pytest

from gwtest import blocks, engine as gw, places, silence
from gwtest.qemu import MIB
from scene import PATIENCE, TRACKERS

pytestmark = pytest.mark.usefixtures("engine")

MACHINES = ["pc-i440fx-7.2", "pc-q35-7.2"]  # the oldest version that tests run with


@pytest.fixture
def qemus():
    if not places.other_qemu():
        pytest.skip("no second QEMU: GODWIT_OTHER_QEMU is not set")
    return places.qemu(), places.other_qemu()


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("there_and_back", [False, True], ids=["there", "back"])
def test_across(make_guest, qemus, machine, there_and_back, tracker):
    ours, other = reversed(qemus) if there_and_back else qemus
    guest = make_guest(binary=ours, memory_args=["-machine", machine, "-m", "192M"], load={"mem": 60, "rate": 4000})
    guest.wait_ready()
    there = make_guest.destination(guest, binary=other)
    with gw.Migration(guest, there, settings={"autostart": "off", "tracker": tracker}) as migration:
        report = migration.complete(PATIENCE)
    assert report["ram"]["total"] >= 192 * MIB
    assert blocks.compare(guest, there) == {}
    there.qmp.execute("cont")
    there.serial.wait_ticks(30)
    found = silence.measure(guest.serial, there.serial)
    assert found.across and found.jumps == [] and found.errors == [] and found.errors_counted == 0
