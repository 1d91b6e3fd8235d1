# SPDX-License-Identifier: Apache-2.0
"""RAM of any kind boards: each is moved, and all memory of the two QEMUs is compared, byte by byte, before the guest runs."""
import pytest

from gwtest import blocks, dma
from gwtest.hugepages import HugePages
from gwtest.qemu import MIB
from scene import PATIENCE, TRACKERS

PAGE = 4096
SIZE = 96 * MIB


def one(text, machine):
    return ["-object", f"{text},id=ram0,size={SIZE}", "-machine", f"{machine},memory-backend=ram0", "-m", f"{SIZE // MIB}M"]


def alone(_shm, _disks, machine):
    return ["-machine", machine, "-m", f"{SIZE // MIB}M"]


def two_nodes(_shm, _disks, machine):
    half = SIZE // 2
    return ["-object", f"memory-backend-ram,id=ram0,size={half}", "-object", f"memory-backend-memfd,id=ram1,size={half},share=off",
            "-numa", "node,memdev=ram0", "-numa", "node,memdev=ram1", "-machine", machine, "-m", f"{SIZE // MIB}M"]


def plugged(_shm, _disks, machine):
    return ["-machine", machine, "-m", f"{SIZE // MIB}M,slots=4,maxmem=1G",
            "-object", "memory-backend-ram,id=dimm0,size=128M", "-device", "pc-dimm,id=d0,memdev=dimm0",
            "-object", "memory-backend-ram,id=vmem,size=128M", "-device", "virtio-mem-pci,id=v0,memdev=vmem,requested-size=0"]


KINDS = {
    "private": alone,
    "ram": lambda s, d, m: one("memory-backend-ram", m),
    "ram shared": lambda s, d, m: one("memory-backend-ram,share=on", m),
    "memfd": lambda s, d, m: one("memory-backend-memfd,share=on", m),
    "memfd private": lambda s, d, m: one("memory-backend-memfd,share=off", m),
    "file": lambda s, d, m: one(f"memory-backend-file,share=on,mem-path={s}/ram-@", m),
    "file private": lambda s, d, m: one(f"memory-backend-file,share=off,mem-path={s}/ram-@", m),
    "ext4": lambda s, d, m: one(f"memory-backend-file,share=on,mem-path={d}/ram-@", m),
    "ext4 private": lambda s, d, m: one(f"memory-backend-file,share=off,mem-path={d}/ram-@", m),
    "huge memfd": lambda s, d, m: one("memory-backend-memfd,share=on,hugetlb=on,hugetlbsize=2M", m),
    "huge memfd private": lambda s, d, m: one("memory-backend-memfd,share=off,hugetlb=on,hugetlbsize=2M", m),
    "huge file private": lambda s, d, m: one("memory-backend-file,share=off,mem-path={huge}", m),
    "nodes": two_nodes,
    "plugged": plugged,
}


@pytest.fixture
def make_pair(make_real, shm, disks, stack):
    """A Scene and a destination. The source has noise here and there; `scene.later()` writes more of it."""
    def make(kind, machine="pc"):
        noise = dma.Noise(disks)

        place = stack.enter_context(HugePages(2 * SIZE)).directory if "huge" in kind else ""

        def options(name):
            args = [a.replace("@", name).replace("{huge}", place) for a in KINDS[kind](shm, disks, machine)]
            return {"memory_args": args, "extra": noise.args}
        scene = make_real(**options("source"))
        size, part = len(noise.data), 3 * PAGE
        early = [(at * MIB, size) for at in (16, 17, 40, 41, 90)]
        # becomes zero (the file is shorter), is written anew, is touched for the first time
        late = [(17 * MIB - size, size + part), (40 * MIB + PAGE, part), (60 * MIB + PAGE, 24)]
        noise.begin(scene.source, *early, *late)
        for i in range(len(early)):
            noise.write(scene.source, i)
        scene.later = lambda: [noise.write(scene.source, len(early) + i) for i in range(len(late))]
        scene.expect = lambda guest: noise.peek(guest, 60 * MIB + PAGE, 32) == noise.data[:24] + bytes(8) and \
            noise.peek(guest, 17 * MIB, 4 * PAGE) == bytes(part) + noise.data[part:part + PAGE]
        return scene, scene.spare(**options("there"))
    return make


def unable(kind, tracker):
    """What cannot be tracked: write faults of a disk's files are never handed out."""
    return "ext4" in kind and tracker == "sync"


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_equal(make_pair, kind, tracker, machine):
    scene, there = make_pair(kind, machine)
    migration = scene.migrate(there, {"autostart": "off", "tracker": tracker}, fault="hold@iterate=700")
    if unable(kind, tracker):
        assert "RAM ram0" in scene.check_failed(migration)["desc"]
        return
    migration.send.wait_event(event="pass", timeout=PATIENCE)
    scene.later()
    migration.complete(PATIENCE)
    assert there.qmp.status() == "paused"
    assert blocks.compare(scene.source, there) == {}
    assert scene.expect(there)
    there.qmp.execute("cont")


@pytest.mark.parametrize("kind", ["private", "nodes"])
def test_filtered(make_pair, kind):
    """QEMU's own migration, out of which a filter takes what the passes carry: the guest's RAM is not on the wire twice."""
    scene, there = make_pair(kind)
    migration = scene.migrate(there, {"autostart": "off", "device-state": "migrate"})
    report = migration.complete(PATIENCE)
    assert report["device-state-way"]["way"] == "filter" and "QEMU's own migration sends" in report["device-state-way"]["why"]
    assert report["device-state"] < MIB
    assert blocks.compare(scene.source, there) == {}


def test_a_paused_guest(make_pair):
    """Saving it would give up what only running it takes back: it goes the other way, and that is said."""
    scene, there = make_pair("private")
    scene.source.qmp.execute("stop")
    report = scene.migrate(there).complete(PATIENCE)
    assert report["device-state-way"]["way"] == "filter" and "the guest is paused" in report["device-state-way"]["why"]
    assert there.qmp.status() == "paused" and blocks.compare(scene.source, there) == {}
