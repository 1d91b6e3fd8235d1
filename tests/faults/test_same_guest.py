# SPDX-License-Identifier: Apache-2.0
"""What a guest has seen of its machine it must find at the destination. QEMU compares little of it itself, and what it
does only when it loads the device state."""
import shutil
import subprocess

import pytest

from gwtest import engine as gw
from scene import PATIENCE
from test_refusals import check_pair_refused

DIMM = ["-object", "memory-backend-file,id=m1,size=16M,share=on,mem-path={shm}/{name}.m1"]


def dimm(address):
    return ["-m", "64M,slots=2,maxmem=256M", *DIMM, "-device", f"pc-dimm,id=dimm0,memdev=m1,addr={address}"]


def cpu(text):
    return dict(extra=["-cpu", text])


# (source, destination, what is said)
PAIRS = {
    "cpu feature": (cpu("qemu64,+popcnt,+sse4.2"), cpu("qemu64,+sse4.2"), ["lacks what the guest may use: popcnt:"]),
    "cpu max without": (cpu("max"), cpu("max,-bmi2,-movbe"), ["bmi2", "movbe", "the same -cpu"]),
    "cpu vendor": (cpu("qemu64"), cpu("qemu64,vendor=GenuineIntel"), ["vendor", "AuthenticAMD", "GenuineIntel"]),
    "cpu address": (cpu("qemu64,phys-bits=42"), cpu("qemu64"), ["42 bits of physical address", "has 40"]),
    "hpet": (dict(machine="pc"), dict(machine="pc,hpet=off"), ["hpet is on at the source and off at the destination"]),
    "usb": (dict(machine="pc,usb=on"), dict(machine="pc"), ["the machine's usb is on at the source"]),
    "below 4 GiB": (dict(machine="pc"), dict(machine="pc,max-ram-below-4g=1G"), ["max-ram-below-4g"]),
    "maxmem": (dict(extra=["-m", "64M,slots=2,maxmem=256M"]), dict(extra=["-m", "64M,slots=2,maxmem=512M"]),
               ["maxmem", "268435456 at the source and 536870912 at the destination"]),
    "slots": (dict(extra=["-m", "64M,slots=2,maxmem=256M"]), dict(extra=["-m", "64M,slots=4,maxmem=256M"]),
              ["memory.slots is 2 at the source and 4"]),
    "topology": (dict(extra=["-smp", "1,maxcpus=4,sockets=4,cores=1,threads=1"]),
                 dict(extra=["-smp", "1,maxcpus=4,sockets=1,cores=4,threads=1"]), ["the machine's smp.", "cores is 1"]),
    "memory device": (dict(extra=dimm("0x100000000")), dict(extra=dimm("0x140000000")),
                      ["the memory device dimm0: addr is 4294967296 at the source and 5368709120"]),
}


def start(make_bare, shm, name, options, **more):
    options = dict(options)
    options["extra"] = [word.format(shm=shm, name=name) for word in options.get("extra", [])]
    return make_bare(name=name, **options, **more)


@pytest.mark.parametrize("what", list(PAIRS))
def test_differs(make_bare, shm, what):
    ours, theirs, words = PAIRS[what]
    source = start(make_bare, shm, "source", ours)
    check_pair_refused(source, start(make_bare, shm, "there", theirs, incoming=True), *words)
    with gw.Migration(source, start(make_bare, shm, "fresh", ours, incoming=True)) as migration:
        migration.complete(PATIENCE)


def test_a_cpu_that_can_more(make_bare):
    """Is no harm now; the way back is barred once the guest has seen it."""
    source = make_bare(name="source", extra=["-cpu", "qemu64"])
    there = make_bare(name="there", extra=["-cpu", "qemu64,+popcnt"], incoming=True)
    with gw.Migration(source, there) as migration:
        migration.complete(PATIENCE)
        said = migration.receive.wait(PATIENCE).stderr
    assert "warning: the destination's CPU has more than the source's" in said and "popcnt" in said, said


# Disks. Each is an image of its own unless it is the same file; locks are off, or QEMU itself would refuse.

def make_image(path, size="8M", fmt="qcow2", base=None):
    more = ["-b", base, "-F", "qcow2"] if base else []
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *more, path] + ([] if base else [size]), check=True)
    return path


def disk(path, fmt="qcow2"):
    return ["-blockdev", f"driver={fmt},node-name=n0,file.driver=file,file.filename={path},file.locking=off",
            "-device", "virtio-blk-pci,drive=n0,id=vd"]


def both(make_bare, ours, theirs):
    return make_bare(name="source", extra=ours), make_bare(name="there", extra=theirs, incoming=True)


def complete(source, there, settings=None):
    """What receive said."""
    with gw.Migration(source, there, settings=settings) as migration:
        migration.complete(PATIENCE)
        return migration.receive.wait(PATIENCE).stderr


def test_a_snapshot_that_the_destination_does_not_have(make_bare, shm):
    """Taken since the guest was started; the destination is started with the guest's first command line."""
    base = make_image(f"{shm}/base.qcow2")
    source, there = both(make_bare, disk(base), disk(base))
    source.qmp.execute("blockdev-snapshot-sync", {"node-name": "n0", "snapshot-file": f"{shm}/over.qcow2",
                                                  "format": "qcow2", "snapshot-node-name": "n1"})
    check_pair_refused(source, there, f"the disk vd is {shm}/over.qcow2 on {shm}/base.qcow2 at the source and "
                       f"{shm}/base.qcow2 at the destination", "check-disks=off")


OTHERS = {
    "size": (("a.img", "8M", "raw"), ("a.img", "16M", "raw"), "the disk vd has 8388608 bytes at the source"),
    "name": (("a.img", "8M", "raw"), ("b.img", "8M", "raw"), "b.img at the destination"),
    "format": (("a.img", "8M", "raw"), ("a.img", "8M", "qcow2"), "a.img at the destination"),
}


@pytest.mark.parametrize("what", list(OTHERS))
def test_another_image(make_bare, shm, what):
    ours, theirs, words = OTHERS[what]
    args = []
    for host, (name, size, fmt) in (("here", ours), ("there", theirs)):
        subprocess.run(["mkdir", "-p", f"{shm}/{host}"], check=True)
        args.append(disk(make_image(f"{shm}/{host}/{name}", size, fmt), fmt))
    source, there = both(make_bare, *args)
    check_pair_refused(source, there, words)
    assert "warning: the disk" not in complete(source, there, {"check-disks": "off"})


def test_storage_that_is_mounted_elsewhere(make_bare, shm):
    """May be the same image: whether it is their names do not tell. Said, and not refused."""
    subprocess.run(["mkdir", f"{shm}/mnt"], check=True)
    image = make_image(f"{shm}/a.qcow2")
    shutil.copy(image, f"{shm}/mnt/a.qcow2")
    said = complete(*both(make_bare, disk(image), disk(f"{shm}/mnt/a.qcow2")))
    assert "whether that is the same image their names do not tell" in said, said


def test_the_same_image(make_bare, shm):
    image = make_image(f"{shm}/a.qcow2", base=make_image(f"{shm}/base.qcow2"))
    assert "the disk" not in complete(*both(make_bare, disk(image), disk(image)))


def cdrom(path=None):
    return ["-drive", "if=none,id=cd0,media=cdrom,read-only=on" + (f",format=raw,file={path}" if path else ""),
            "-device", "ide-cd,drive=cd0,id=cd,bus=ide.1"]


def test_a_medium_that_is_not_there(make_bare, shm):
    image = make_image(f"{shm}/a.iso", fmt="raw")
    source, there = both(make_bare, cdrom(image), cdrom())
    check_pair_refused(source, there, f"the disk cd", f"{shm}/a.iso", "empty")
    source.qmp.execute("eject", id="cd", force=True)
    complete(source, there)
