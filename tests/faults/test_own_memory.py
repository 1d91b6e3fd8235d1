# SPDX-License-Identifier: Apache-2.0
"""godwit runs as root and the VMM need not: what the VMM itself may not write is not written for it, and the memory of
the guest that is moved does not get into a file of somebody else."""
import hashlib
import os
import subprocess

import pytest

from gwtest import engine as gw
from gwtest.qemu import MIB, Backend
from scene import PATIENCE
from test_refusals import check_refused, errors_of

NOBODY = 65534


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def make_file(path, size=64 * MIB):
    """Root's own: everybody may read it, nobody else may write it."""
    with open(path, "wb") as file:
        file.write(os.urandom(size))
    os.chmod(path, 0o644)
    return path


@pytest.fixture
def open_home(shm):
    """Where the user nobody may make a socket."""
    os.chmod(shm, 0o755)
    path = f"{shm}/open"
    os.mkdir(path)
    os.chmod(path, 0o777)
    return path


def check_not_written(victim, source, there):
    """Neither by a receiver that waits nor, if it waits, by a migration that comes."""
    before, port = sha256(victim), next(gw._ports)
    address = f"tcp:127.0.0.1:{port}"
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", address) as receive:
        try:
            receive.wait_listening(port)
            with gw.Engine("send", "--qmp", source.qmp_path, "--to", address) as send:
                send.wait(PATIENCE)
        except RuntimeError:
            pass  # it has ended: that is what it should
        assert sha256(victim) == before, "a file of root was written for a process that may only read it"
        result = receive.wait(PATIENCE)
    assert there.alive()
    return result


def test_a_file_that_the_vmm_may_only_read(make_scene, open_home, shm):
    victim = make_file(f"{shm}/victim")
    scene = make_scene()
    there = scene.spare(directory=open_home, user=NOBODY, options=("--read-only-ram",),
                        backends=[Backend("ram0", 64 * MIB, victim)])
    result = check_not_written(victim, scene.source, there)
    check_refused(result, f"maps {victim} of the RAM back end ram0 for reading only", "may not be written in its place")
    scene.check_runs_on()


@pytest.fixture
def two_mounts(root, shm):
    """Two tmpfs: their files have the same inode numbers."""
    paths = [f"{shm}/mount{i}" for i in range(2)]
    for path in paths:
        os.mkdir(path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80M,mode=755", "none", path], check=True)
    yield paths
    for path in paths:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_file_that_takes_the_place_of_its_own(make_scene, open_home, two_mounts):
    """The VMM has good RAM when its mappings are listed, and maps another file there before they are opened."""
    own, victim = (f"{path}/file" for path in two_mounts)
    make_file(own)
    os.chown(own, NOBODY, NOBODY)
    make_file(victim)
    assert os.stat(own).st_ino == os.stat(victim).st_ino
    scene = make_scene()
    there = scene.spare(directory=open_home, user=NOBODY, options=("--swap-ram", victim),
                        backends=[Backend("ram0", 64 * MIB, own)])
    result = check_not_written(victim, scene.source, there)
    assert result.code == 1 and "ram0" in errors_of(result)[0], result
    scene.check_runs_on()


def test_the_same_file_that_it_may_only_read(make_scene, open_home, shm):
    """As above, where it is the file's mode that changed and not the file: it was opened for writing when it could."""
    scene = make_scene()
    ram = f"{shm}/ram"
    with open(ram, "wb") as file:
        file.truncate(64 * MIB)
    os.chown(ram, NOBODY, NOBODY)
    there = scene.spare(directory=open_home, user=NOBODY, backends=[Backend("ram0", 64 * MIB, ram)])
    os.chown(ram, 0, 0)
    os.chmod(ram, 0o644)
    scene.migrate(there, {"autostart": "off"}).complete(PATIENCE)
