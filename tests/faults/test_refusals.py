# SPDX-License-Identifier: Apache-2.0
"""What godwit will not migrate, or not in this way: refused by name before anything is changed, with the cure."""
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest

from gwtest import clean, engine as gw
from gwtest.qemu import MIB
from scene import BY_MIGRATE, PATIENCE, check_waits_on, wait_until


def memory_args(text, size="64M", machine="pc"):
    return ["-object", f"{text},id=ram0,size={size}", "-machine", f"{machine},memory-backend=ram0", "-m", size]


def errors_of(result):
    return [line for line in result.stderr.splitlines() if ": error: " in line]


def check_refused(result, *words):
    """In one line, with all the words."""
    assert result.code == 1 and result.report["error"]["class"] == "refused", result
    assert len(errors_of(result)) == 1, result.stderr
    for word in words:
        assert word in errors_of(result)[0], result.stderr


class Refuser:
    """A destination that any source may try; what is refused here is refused before it is asked for anything."""

    def __init__(self, there):
        self.port = next(gw._ports)
        self.address = f"tcp:127.0.0.1:{self.port}"
        self.receive = gw.Engine("receive", "--qmp", there.qmp_path, "--listen", self.address)
        self.receive.wait_listening(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.receive.close()


def check_send_refused(source, there, *words):
    """Nothing is changed at the source, nor at the destination, which waits on."""
    before, status = clean.Snapshot(source), source.qmp.status()
    with Refuser(there) as refuser:
        with gw.Engine("send", "--qmp", source.qmp_path, "--to", refuser.address) as send:
            result = send.wait(PATIENCE)
        check_refused(result, *words)
        assert "the guest " + ("runs on" if status == "running" else "stays") in result.stderr
        check_waits_on(refuser.receive, "inspect", "the source gave up: ", *words)
    assert source.alive() and source.qmp.status() == status
    before.check()
    assert there.qmp.status() == "inmigrate"


def check_receive_refused(there, *words):
    before, status = clean.Snapshot(there), there.qmp.status()
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", "tcp:127.0.0.1:0") as receive:
        check_refused(receive.wait(PATIENCE), *words)
    assert there.alive() and there.qmp.status() == status
    before.check()


def check_pair_refused(source, there, *words):
    """The two do not match. The source runs on; the destination may wait for the right one."""
    before = clean.Snapshot(source)
    with gw.Migration(source, there) as migration:
        sent = migration.send.wait(PATIENCE)
        check_refused(sent, "destination: ", *words)
        assert "the guest runs on at the source" in sent.stderr
        check_waits_on(migration.receive, "inspect", *words)
    assert source.alive() and source.qmp.status() == "running"
    before.check()
    assert there.alive() and there.qmp.status() == "inmigrate"


@pytest.fixture
def spare(make_bare):
    return make_bare(name="spare", incoming=True)


@pytest.fixture
def ramfs(disks):
    """A directory on a file system of which nothing is known here."""
    place = os.path.join(disks, "ramfs")
    os.mkdir(place)
    subprocess.run(["mount", "-t", "ramfs", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_ram_in_a_file_of_another_system(make_bare, spare, ramfs):
    words = ["RAM back end ram0", "none of tmpfs, hugetlbfs, ext4 and xfs"]
    args = memory_args(f"memory-backend-file,share=on,mem-path={ramfs}/ram")
    check_send_refused(make_bare(name="source", memory_args=args), spare, *words)
    check_receive_refused(make_bare(name="there", memory_args=args, incoming=True), *words)


def test_ram_that_no_device_uses(make_bare, spare):
    args = ["-machine", "pc", "-m", "64M", "-object", "memory-backend-ram,id=spare0,size=32M"]
    check_send_refused(make_bare(name="source", memory_args=args), spare, "no device of the guest uses the RAM back end spare0", "object-del")


def test_two_back_ends_in_one_file(make_bare, spare, shm):
    one = f"size=32M,share=on,mem-path={shm}/shared"
    args = ["-object", f"memory-backend-file,id=ram0,{one}", "-object", f"memory-backend-file,id=ram1,{one}",
            "-numa", "node,memdev=ram0", "-numa", "node,memdev=ram1", "-machine", "pc", "-m", "64M"]
    check_send_refused(make_bare(name="source", memory_args=args), spare, "ram0", "ram1")


@BY_MIGRATE
def test_ram_private_stunt(make_scene):
    """A QEMU that says that its RAM may be left out of its stream, and then would not leave it out."""
    scene = make_scene(options=("--private-ram",))
    migration = scene.migrate(scene.spare())
    error = scene.check_failed(migration)
    assert error["class"] == "refused", error
    scene.check_runs_on()


def mapper(path):
    """A process that has the file mapped, as a vhost-user back end has."""
    code = ("import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); "
            "print('ready', flush=True); sys.stdin.read()")
    return subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_another_process_maps_the_ram(make_bare, spare):
    source = make_bare(name="source")
    for guest, check in ((source, lambda *w: check_send_refused(source, spare, *w)),
                         (spare, lambda *w: check_receive_refused(spare, *w))):
        with mapper(guest.ram_paths[0]) as other:
            assert other.stdout.readline() == b"ready\n"
            check(f"process {other.pid} (python", "maps the guest's RAM too", "detach it first")
            other.stdin.close()
    with gw.Migration(source, spare) as migration:
        migration.complete(PATIENCE)


DEVICES = ["vhost-scsi-pci", "vfio-pci", "vhost-vdpa-device-pci", "vhost-user-blk-pci", "ivshmem-plain"]


@pytest.mark.parametrize("type_", DEVICES)
def test_devices(make_scene, type_):
    scene = make_scene(options=("--extra-device", f"dev7:{type_}"))
    check_send_refused(scene.source, scene.spare(), f"/machine/peripheral/dev7 is a {type_}", "unplug it first")
    scene.check_runs_on()
    check_receive_refused(scene.spare(options=("--extra-device", f"dev7:{type_}")), "dev7", "unplug it first")


def test_a_confidential_guest(make_scene):
    scene = make_scene(options=("--extra-object", "sev-guest:sev0"))
    check_send_refused(scene.source, scene.spare(), "/objects/sev0 is a sev-guest", "confidential")


def ivshmem(shm):
    return ["-object", f"memory-backend-file,id=shm0,size=1M,share=on,mem-path={shm}/ivshmem",
            "-device", "ivshmem-plain,memdev=shm0,id=shared"]


def test_ivshmem(make_bare, spare, shm):
    check_send_refused(make_bare(name="source", extra=ivshmem(shm)), spare, "/machine/peripheral/shared is a ivshmem",
                       "cannot be moved", "unplug it first")
    check_receive_refused(make_bare(name="there", extra=ivshmem(shm), incoming=True), "ivshmem", "unplug it first")


# GET_FEATURES, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM: the requests that want a number back.
VHOST_USER_ASKS = {1, 11, 15, 17}


def play_vhost_user(path):
    """The least of a vhost-user back end: QEMU waits for one before it goes on to its monitor."""
    with socket.socket(socket.AF_UNIX) as client:
        wait_until(lambda: client.connect_ex(path) == 0, "QEMU listens for its back end")
        while len(head := client.recv(12, socket.MSG_WAITALL)) == 12:
            request, _, size = struct.unpack("<III", head)
            client.recv(size, socket.MSG_WAITALL)
            if request in VHOST_USER_ASKS:
                client.sendall(struct.pack("<IIIQ", request, 5, 8, 0))


def test_vhost_user(make_bare, spare, shm):
    net = ["-chardev", f"socket,id=vu,path={shm}/vu,server=on", "-netdev", "vhost-user,id=n0,chardev=vu"]
    back_end = threading.Thread(target=play_vhost_user, args=(f"{shm}/vu",))
    back_end.start()
    source = make_bare(name="source", extra=net)
    check_send_refused(source, spare, "network back end of type vhost-user", "unplug it first")
    source.remove()
    back_end.join()


def test_qemu_says_no(make_bare, spare, shm):
    """For a reason that is QEMU's own, such as a disk format that it cannot hand over."""
    os.mkdir(f"{shm}/fat")
    source = make_bare(name="source", extra=["-blockdev", f"driver=vvfat,node-name=fat0,rw=on,dir={shm}/fat"])
    check_send_refused(source, spare, "QEMU says that this guest cannot be migrated: ", "vvfat")


def without(*words):
    return lambda args: [a for a in args if a not in words]


def replaced(old, new):
    return lambda args: [new if a == old else a for a in args]


def test_destination_without_stop(make_bare):
    check_receive_refused(make_bare(name="there", incoming=True, edit=without("-S")), "would run the guest by itself",
                          "start it with -S beside -incoming defer")


def test_destination_that_is_no_destination(make_bare):
    check_receive_refused(make_bare(name="there"), 'it is "running"', "start it with -incoming defer -S")


def test_destination_that_listens_itself(make_bare):
    there = make_bare(name="there", incoming=True, edit=replaced("defer", "tcp:127.0.0.1:0"))
    check_receive_refused(there, "-incoming defer -S")


def test_destination_that_is_spoiled(make_scene):
    """It has loaded a guest already."""
    scene = make_scene()
    there = scene.spare()
    scene.migrate(there, {"autostart": "off"}).complete(PATIENCE)
    check_receive_refused(there, 'it is "paused"', "-incoming defer -S")
    scene.source.qmp.execute("cont")
    scene.check_runs_on()


# What is another at the destination, and what is said.
PAIRS = {
    "machine": (dict(machine="q35"), ["machine type"]),
    "memory": (dict(memory=96 * MIB), ["RAM back end ram0", "67108864", "100663296"]),
    "cpus": (dict(cpus=2), ["CPU"]),
    "cpu type": (dict(extra=["-cpu", "Nehalem"]), ["CPU"]),
    "an extra device": (dict(extra=["-device", "virtio-rng-pci,id=rng9"]), ["the source lacks [rng9 virtio-rng-pci]"]),
}


@pytest.mark.parametrize("what", list(PAIRS))
def test_pairs(make_bare, what):
    other, words = PAIRS[what]
    source = make_bare(name="source")
    check_pair_refused(source, make_bare(**{"name": "there", "incoming": True, **other}), *words)
    with gw.Migration(source, make_bare(name="fresh", incoming=True)) as migration:
        migration.complete(PATIENCE)


def test_all_differences_at_once(make_bare):
    """Not one a try."""
    source = make_bare(name="source", extra=["-device", "virtio-rng-pci,id=rng9"])
    there = make_bare(name="there", incoming=True, cpus=2, memory=96 * MIB)
    check_pair_refused(source, there, "1 vCPUs", "has 2", "RAM back end ram0", "the destination lacks [rng9 virtio-rng")


def test_all_refusals_at_once(make_bare, spare, shm):
    """Of the guest and of its RAM."""
    unused = ["-object", "memory-backend-ram,id=spare0,size=32M"]
    source = make_bare(name="source", extra=ivshmem(shm) + unused)
    check_send_refused(source, spare, "the RAM back end spare0", "/machine/peripheral/shared is a ivshmem")


def test_a_device_that_only_the_source_has(make_bare):
    source = make_bare(name="source", extra=["-device", "virtio-rng-pci,id=rng9"])
    check_pair_refused(source, make_bare(name="there", incoming=True), "the destination lacks [rng9 virtio-rng-pci]")


def test_back_ends_with_other_names(make_bare, shm):
    args = ["-object", f"memory-backend-file,id=mem9,size=64M,share=on,mem-path={shm}/mem9",
            "-machine", "pc,memory-backend=mem9", "-m", "64M"]
    check_pair_refused(make_bare(name="source"), make_bare(name="there", incoming=True, memory_args=args), "mem9",
                       "is not at the source")


def test_another_godwit_on_the_same_guest(make_scene):
    """Whether it sends or receives; neither is disturbed by it."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, {"autostart": "off"}, fault="hold@iterate=1000")
    migration.send.wait_event(event="stage", stage="iterate")
    for args in (["send", "--qmp", scene.source.qmp_path, "--to", "tcp:127.0.0.1:1"],
                 ["receive", "--qmp", scene.source.qmp_path, "--listen", "tcp:127.0.0.1:0"],
                 ["receive", "--qmp", there.qmp_path, "--listen", "tcp:127.0.0.1:0"]):
        with gw.Engine(*args) as second:
            check_refused(second.wait(PATIENCE), "another godwit works on this guest")
    migration.complete(PATIENCE)


def test_another_godwit_on_the_same_guest_real(make_real):
    """With a monitor of its own, as QEMU offers them."""
    scene = make_real()
    migration = scene.migrate(scene.spare(), {"autostart": "off"}, fault="hold@iterate=1000")
    migration.send.wait_event(event="stage", stage="iterate")
    source = scene.source
    source.qmp.execute("chardev-add", id="second", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": source.qmp_path + "2"}}, "server": True, "wait": False}})
    with gw.Engine("send", "--qmp", source.qmp_path + "2", "--to", "tcp:127.0.0.1:1") as second:
        check_refused(second.wait(PATIENCE), "another godwit works on this guest")
    migration.complete(PATIENCE)


def test_qemu_migrates_itself(make_bare, spare, shm):
    """To somebody who never reads: it stays under way until it is cancelled."""
    source = make_bare(name="source")
    source.qmp.execute("migrate-set-parameters", {"max-bandwidth": 4096})
    source.qmp.execute("migrate", uri=f"exec:cat >{shm}/stream")
    source.qmp.wait_until(lambda q: q.execute("query-migrate").get("status") == "active")
    check_send_refused(source, spare, 'QEMU is migrating this guest already ("active")')
    source.qmp.execute("migrate_cancel")
    source.qmp.wait_until(lambda q: q.execute("query-migrate").get("status") == "cancelled")
    source.qmp.execute("migrate-set-parameters", {"max-bandwidth": 128 << 20})
    with gw.Migration(source, spare) as migration:
        migration.complete(PATIENCE)


def test_a_guest_that_has_left(make_scene):
    """It runs at the destination: it must not be sent once more from here."""
    scene = make_scene()
    scene.migrate(scene.spare()).complete(PATIENCE)
    scene.wait_gone()
    before, there = clean.Snapshot(scene.source), scene.spare()
    with Refuser(there) as refuser:
        with gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", refuser.address) as send:
            check_refused(send.wait(PATIENCE), "was handed over and has run at its destination")
        assert refuser.receive.alive() and not any(e["event"] == "refused" for e in refuser.receive.events())
    assert scene.source.qmp.status() == scene.left()
    before.check()


def test_wrong_monitor(shm, engine):
    """What is typed wrong, without any guest."""
    for args, why in ((["--qmp", f"{shm}/none", "--to", "tcp:127.0.0.1:1"], "No such file or directory"),
                      (["--qmp", shm, "--to", "tcp:127.0.0.1:1"], "cannot connect to the QMP socket")):
        with gw.Engine("send", *args) as send:
            result = send.wait(PATIENCE)
        assert result.code == 1 and why in result.stderr, result


def test_nobody_listens(make_scene):
    scene = make_scene()
    with gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", "tcp:127.0.0.1:1") as send:
        result = send.wait(PATIENCE)
    assert result.code == 1 and "is 'godwit receive' running there?" in result.stderr
    scene.check_runs_on()
    scene.check_retry()
