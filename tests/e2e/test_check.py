# SPDX-License-Identifier: Apache-2.0
"""godwit check: all that would stop a migration, and nothing touched at either end."""
import os
import re
import socket
import struct
import time

import pytest

from gwtest import clean, engine as gw
from gwtest.qemu import MIB
from scene import PATIENCE

MAGIC = b"\x89godwi\r\n"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
with open(os.path.join(ROOT, "docs", "protocol.md"), encoding="utf-8") as page:
    VERSION = int(re.search(r"^Version (\d+)", page.read(), re.M).group(1))


def check(source, address, *args, netns=None):
    with gw.Engine("check", "--qmp", source.qmp_path, "--to", address, "--json", *args, machine=False, netns=netns) as engine:
        return engine.wait(PATIENCE)


class Waiting:
    """A receiver that waits."""

    def __init__(self, there, **options):
        self.port = next(gw._ports)
        self.address = f"tcp:127.0.0.1:{self.port}"
        self.receive = gw.Engine("receive", "--qmp", there.qmp_path, "--listen", self.address, **options)
        self.receive.wait_listening(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.receive.close()


def texts(result, side, kind="refusals"):
    return result.report[side][kind]


def ledgers(guest):
    """Records of this guest."""
    run = os.environ.get("GODWIT_RUN", "/run/godwit")
    names = os.listdir(run) if os.path.isdir(run) else []
    return [name for name in names if name.startswith(f"{guest.pid}-")]


def test_nothing_stands_against_it(make_scene):
    """Said of a pair that fits, as often as one likes; then it migrates."""
    scene = make_scene()
    there = scene.spare()
    before = clean.Snapshot(scene.source)
    with Waiting(there, settings={"autostart": "off", "downtime-limit": "100ms"}) as waiting:
        for _ in range(3):
            result = check(scene.source, waiting.address, "--set", "downtime-limit=2s")
            assert result.code == 0 and result.report["status"] == "fine", result
            assert texts(result, "source") == [] and texts(result, "destination") == [], result
            assert result.report["params"]["downtime-limit"] == 100, result
            assert ledgers(scene.source) == []
        assert scene.source.qmp.status() == "running"
        assert waiting.receive.alive() and not [e for e in waiting.receive.events() if e["event"] == "refused"]
        before.check()
        with gw.Engine("send", "--qmp", scene.source.qmp_path, "--to", waiting.address) as send:
            sent, received = send.wait(PATIENCE), waiting.receive.wait(PATIENCE)
    assert sent.code == 0 and received.code == 0, (sent, received)


def test_everything_that_stands_against_it(make_bare):
    """All at once: where 'send' stops at the first, this names each."""
    source = make_bare(name="source", extra=["-device", "virtio-rng-pci,id=rng9"])
    there = make_bare(name="there", incoming=True, memory=96 * MIB, cpus=2)
    before = clean.Snapshot(source)
    with Waiting(there) as waiting:
        result = check(source, waiting.address)
        assert result.code == 1 and result.report["status"] == "refused", result
        said = "\n".join(texts(result, "destination"))
        for words in ("67108864", "100663296", "CPU", "rng9"):
            assert words in said, result
        assert len(texts(result, "destination")) >= 3, result
        assert waiting.receive.alive()
    assert source.qmp.status() == "running" and there.qmp.status() == "inmigrate"
    before.check()


def test_what_only_the_source_has(make_scene):
    """It cannot be moved at all, and the receiver is asked nevertheless or not: nothing is changed, and it is named."""
    scene = make_scene(options=("--extra-device", "dev7:vfio-pci"))
    with Waiting(scene.spare()) as waiting:
        result = check(scene.source, waiting.address)
    assert result.code == 1, result
    assert any("dev7 is a vfio-pci" in text for text in texts(result, "source")), result
    scene.check_runs_on()


def test_memory_is_not_emptied(make_scene):
    """What the destination's RAM files hold stays until a migration that fits begins."""
    scene = make_scene()
    there = scene.spare()
    with open(there.ram_paths[0], "r+b") as file:
        file.seek(1 << 20)
        file.write(b"precious")
    with Waiting(there) as waiting:
        assert check(scene.source, waiting.address).code == 0
        with open(there.ram_paths[0], "rb") as file:
            file.seek(1 << 20)
            assert file.read(8) == b"precious"


def test_a_paused_guest_is_remarked(make_scene):
    scene = make_scene()
    scene.source.qmp.execute("stop")
    with Waiting(scene.spare()) as waiting:
        result = check(scene.source, waiting.address)
    assert result.code == 0 and any("paused" in text for text in texts(result, "source", "remarks")), result
    assert scene.source.qmp.status() == "paused"


def test_what_the_kernel_lacks(make_scene, monkeypatch):
    scene = make_scene()
    with Waiting(scene.spare()) as waiting:
        monkeypatch.setenv("GODWIT_FAULT", "no-wp-async")
        result = check(scene.source, waiting.address)
        assert result.code == 0 and any("slow tracker" in t for t in texts(result, "source", "remarks")), result
        result = check(scene.source, waiting.address, "--set", "tracker=async")
        assert result.code == 1 and any("tracker=async" in t for t in texts(result, "source")), result
        monkeypatch.setenv("GODWIT_FAULT", "no-wp-async,no-wp-shmem")
        result = check(scene.source, waiting.address)
        assert result.code == 1 and any("godwit probe" in t for t in texts(result, "source")), result


def test_nobody_there(make_scene):
    scene = make_scene()
    result = check(scene.source, f"tcp:127.0.0.1:{next(gw._ports)}")
    assert result.code == 1 and "is 'godwit receive' running there?" in texts(result, "destination")[0], result
    scene.check_runs_on()


def test_busy(make_scene):
    """While a migration is served; it does not mind."""
    scene, other = make_scene(), make_scene()
    migration = scene.migrate(scene.spare(), {"autostart": "off"}, fault="hold@iterate=3000")
    migration.send.wait_event(event="stage", stage="iterate")
    result = check(other.source, migration.address)
    assert result.code == 1 and "busy with another migration" in texts(result, "destination")[0], result
    result = check(scene.source, migration.address)
    assert result.code == 1 and result.report["status"] == "failed", result
    assert "another godwit works on this guest" in result.report["error"]["desc"], result
    migration.complete(PATIENCE)


@pytest.mark.parametrize("say", [b"", b"\x02\x00\x00\x00{}", struct.pack("<I", 1 << 30), b"\x04\x00\x00\x00null"])
def test_one_who_checks_and_says_nothing_right(make_scene, say):
    """Is sent away within its 10 s, and keeps nobody out meanwhile."""
    scene = make_scene()
    with Waiting(scene.spare(), settings={"autostart": "off"}) as waiting:
        with socket.create_connection(("127.0.0.1", waiting.port), timeout=30) as client:
            client.sendall(struct.pack("<8sHBxHxx16s8x", MAGIC, VERSION, 5, 0, bytes(16)) + say)
            assert client.recv(32, socket.MSG_WAITALL)[10] == 0
            begin = time.monotonic()
            assert check(scene.source, waiting.address).code == 0
            assert time.monotonic() - begin < 5
            while client.recv(4096):
                pass
            assert time.monotonic() - begin < 15
        assert waiting.receive.alive()


def test_for_people(make_scene):
    scene = make_scene()
    with Waiting(scene.spare()) as waiting:
        with gw.Engine("check", "--qmp", scene.source.qmp_path, "--to", waiting.address, machine=False) as engine:
            result = engine.wait(PATIENCE)
            with open(engine._file("stdout"), encoding="utf-8") as file:
                assert file.read().endswith("nothing stands against a migration\n")
    assert result.code == 0, result
