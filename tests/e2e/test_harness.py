# SPDX-License-Identifier: Apache-2.0
"""The test equipment is tested first: what it cannot see, no other test can."""
import os
import subprocess
import time

import pytest

from gwtest import clean, cpu, engine, hugepages as huge, netns, oracle, process, serial, silence, stock
from gwtest.qemu import MIB, Backend
from gwtest.qmp import QmpError


class Said:
    """A Serial that has said its piece."""

    def __init__(self, lines, rest=""):
        self.lines = [serial.Line(*line) for line in lines]
        self.rest = rest

    def ticks(self):
        return [t for t in map(serial.parse_tick, self.lines) if t]

    def errors(self):
        return [line.text for line in self.lines if "ERROR" in line.text]


def tick(at, seq, errors=0):
    return at, f"tick {seq} {seq * 10} 5 6 7 {errors}"


def test_silence_sees_the_gap_and_a_line_in_two_halves():
    source = Said([tick(1.00, 1), tick(1.01, 2)], rest="tick 3 30 5 ")
    destination = Said([(1.25, "6 7 0"), tick(1.26, 4)])
    found = silence.measure(source, destination)
    assert found.longest == pytest.approx(0.24) and found.handover == pytest.approx(0.24)
    assert found.jumps == [] and found.errors == [] and found.across
    assert [t.seq for t in found.ticks] == [1, 2, 3, 4]


def test_silence_sees_a_repeat_a_jump_and_an_error():
    source = Said([tick(1.00, 1), tick(1.01, 2)])
    destination = Said([tick(1.02, 2), tick(1.03, 5, errors=1), (1.03, "ERROR page 7")])
    found = silence.measure(source, destination)
    assert found.jumps == [(2, 2), (2, 5)]
    assert found.errors == ["ERROR page 7"] and found.errors_counted == 1


def test_oracle_names_the_pages_that_differ(shm):
    paths = [os.path.join(shm, name) for name in "ab"]
    for path in paths:
        with open(path, "wb") as file:
            file.truncate(64 * MIB)
            for page in (0, 5000, 16383):
                os.pwrite(file.fileno(), b"x" * 4096, page * 4096)
    assert oracle.differing_pages(*paths) == []
    with open(paths[1], "r+b") as file:
        os.pwrite(file.fileno(), b"y", 5000 * 4096 + 4095)
        os.pwrite(file.fileno(), b"y", 9000 * 4096)  # data against a hole
        os.pwrite(file.fileno(), b"y", 64 * MIB - 1)
    before = oracle.allocated(paths[0])
    assert oracle.differing_pages(*paths) == [5000, 9000, 16383]
    assert oracle.allocated(paths[0]) == before, "comparing must not fill holes"


def test_oracle_holds_written_zeros_equal_to_a_hole(shm):
    paths = [os.path.join(shm, name) for name in "ab"]
    for path in paths:
        with open(path, "wb") as file:
            file.truncate(MIB)
    with open(paths[0], "r+b") as file:
        os.pwrite(file.fileno(), bytes(8192), 4096)
    assert oracle.differing_pages(*paths) == []
    assert oracle.allocated(paths[0]) > oracle.allocated(paths[1])


def test_children_are_killed_by_id():
    child = process.spawn(["sleep", "1000"])
    assert child.poll() is None
    assert process.kill(child) == -9
    assert process.kill(child) == -9
    assert not os.path.exists(f"/proc/{child.pid}")


def test_cpu_seconds_count_a_busy_process():
    child = process.spawn(["sh", "-c", "while :; do :; done"])
    while cpu.seconds(child.pid) < 0.1:
        time.sleep(0.01)
    process.kill(child)
    assert cpu.seconds(child.pid) == 0


def ping(hosts):
    command = ["ip", "netns", "exec", hosts.a.netns, "busybox", "ping", "-c", "1", "-W", "1", hosts.b.address]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_hosts_see_each_other_until_the_link_is_cut(hosts):
    sent, received = hosts.b.counters()
    assert ping(hosts)
    assert hosts.b.counters()[0] > sent and hosts.b.counters()[1] > received
    hosts.cut()
    assert not ping(hosts)
    hosts.heal()
    assert ping(hosts)


def test_two_pairs_of_hosts_do_not_meet(root):
    with netns.Hosts() as one, netns.Hosts(netns.GIGABIT) as two:
        one.cut()
        assert ping(two)
        names = [one.a.netns, two.b.netns]
    listing = subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert not any(name in listing for name in names)


def test_hugepages_are_given_back(hugepages):
    pages = hugepages(4 * huge.SIZE)
    path = os.path.join(pages.directory, "ram")
    with open(path, "wb") as file:
        file.truncate(4 * huge.SIZE)
    assert os.statvfs(pages.directory).f_bsize == huge.SIZE
    directory = pages.directory
    pages.release()
    assert not os.path.exists(directory)


def test_guest_ticks_and_its_load_works(make_guest):
    guest = make_guest(memory=256 * MIB, load={"mem": 64, "rate": 8192}).wait_ready()
    last = guest.serial.wait_ticks(100)
    found = silence.measure(guest.serial)
    assert last.dirtied > 0 and last.checked >= last.dirtied
    assert found.jumps == [] and found.errors == [] and found.longest > 0
    assert oracle.allocated(guest.ram_paths[0]) > 64 * MIB
    assert guest.qmp.status() == "running"
    with pytest.raises(QmpError):
        guest.qmp.execute("no-such-command")


def test_guest_refuses_a_setting_that_it_does_not_know(make_guest):
    guest = make_guest(memory=256 * MIB, load={"mem": 16, "nonsense": 1})
    with pytest.raises(RuntimeError):
        guest.wait_ready()


def test_guest_finds_memory_that_was_changed_behind_its_back(make_guest):
    guest = make_guest(memory=256 * MIB, load={"mem": 32, "rate": 0, "sweep": 65536}).wait_ready()
    guest.serial.wait_ticks(5)
    guest.qmp.execute("stop")
    stamp = (0x5450574454494D47 ^ 1).to_bytes(8, "little")
    with open(guest.ram_paths[0], "r+b") as file:
        page = next(at for at in range(0, 256 * MIB, 4096) if os.pread(file.fileno(), 8, at) == stamp)
        os.pwrite(file.fileno(), b"wrong", page + 100)
    guest.qmp.execute("cont")
    guest.serial.wait_line(lambda text: text.startswith("ERROR page") and "differs at 100" in text)


def test_guest_with_numa_huge_pages_and_q35(make_guest, hugepages):
    pages = hugepages(256 * MIB)
    backends = [Backend(f"ram{i}", 128 * MIB, os.path.join(pages.directory, f"ram{i}")) for i in range(2)]
    guest = make_guest(machine="q35", backends=backends, numa=True, cpus=2, load={"mem": 64, "threads": 2})
    guest.wait_ready().serial.wait_ticks(20)
    assert len(guest.qmp.execute("query-memdev")) == 2
    assert guest.serial.errors() == []


def test_guest_works_on_its_disk_and_finds_a_wrong_block(make_guest, disks):
    image = os.path.join(disks, "disk")
    with open(image, "wb") as file:
        file.truncate(8 * MIB)
    guest = make_guest(memory=256 * MIB, disk=image, load={"mem": 16, "diskread": 1, "diskrate": 0}).wait_ready()
    deadline = time.monotonic() + 60
    while guest.serial.wait_ticks(5).disk_ops < 500:
        assert time.monotonic() < deadline
    assert guest.serial.errors() == []
    guest.qmp.execute("stop")
    with open(image, "r+b") as file:
        for at in range(0, 8 * MIB, 4096):
            os.pwrite(file.fileno(), b"wrong", at + 40)
    guest.qmp.execute("cont")
    guest.serial.wait_line(lambda text: text.startswith("ERROR disk block"))


def test_clean_sees_what_is_left_behind(make_guest, shm):
    guest = make_guest(memory=256 * MIB, load={"mem": 16})
    before = clean.Snapshot(guest, [shm])
    before.check()
    guest.qmp.execute("migrate-set-parameters", downtime_limit=77)
    guest.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": True}])
    left = os.path.join(shm, "left")
    open(left, "w", encoding="ascii").close()
    tracer = process.spawn(["sleep", "1000"])
    assert clean.traced_threads(tracer.pid) == []
    found = before.differences()
    assert [text.split(":")[0] for text in found] == ["capabilities", "parameters", "file left"]
    process.kill(tracer)


def test_stunt_runs_and_its_memory_changes(make_stunt, shm):
    guest = make_stunt(memory=64 * MIB, load="uniform,rate=20M", options=["--drain-ms", 0])
    copy = make_stunt.destination(guest)
    before = clean.Snapshot(guest)
    assert guest.qmp.status() == "running" and copy.qmp.status() == "inmigrate"
    guest.qmp.wait_until(lambda qmp: len(guest.stats_lines()) > 2)
    guest.qmp.execute("stop")
    guest.check()
    assert oracle.compare_ram(guest, copy)["ram0"] and oracle.compare_ram(guest, guest) == {}
    before.check()


FAKE_GODWIT = """#!/usr/bin/python3
import json, os, socket, sys, time
args = sys.argv[1:]
def value(name):
    return args[args.index(name) + 1]
def event(**fields):
    with open(value("--events"), "a") as file:
        file.write(json.dumps(fields) + "\\n")
host, port = (value("--listen") if args[0] == "receive" else value("--to")).split(":")[1:]
if args[0] == "receive":
    with socket.create_server((host, int(port))) as server:
        server.accept()[0].recv(1)
else:
    socket.create_connection((host, int(port))).send(b"x")
    for number in range(3):
        event(event="round", number=number)
    print("told", os.environ.get("GODWIT_FAULT"), file=sys.stderr)
    while "hang=on" in args:
        time.sleep(1)
print(json.dumps({"status": "completed", "args": args}))
"""


@pytest.fixture
def fake_engine(shm, monkeypatch):
    path = os.path.join(shm, "godwit")
    with open(path, "w", encoding="ascii") as file:
        file.write(FAKE_GODWIT)
    os.chmod(path, 0o755)
    monkeypatch.setenv("GODWIT", path)


class Nobody:
    """A guest to whom nothing is done."""
    qmp_path = "/nowhere"


def test_engine_runs_both_sides_and_reads_what_they_say(fake_engine, hosts):
    with engine.Migration(Nobody, Nobody, hosts, settings={"autostart": "off"}, fault="kill@stop") as migration:
        assert migration.send.wait_event(event="round", number=1)["number"] == 1
        assert migration.send.wait_event(event="round")["number"] == 2
        report = migration.complete()
        assert "autostart=off" in report["args"] and "told kill@stop" in migration.send.wait().stderr
        assert migration.cpu_seconds() > 0
        assert [e["number"] for e in migration.send.wait().events] == [0, 1, 2]


def test_engine_that_hangs_is_killed(fake_engine):
    with engine.Migration(Nobody, Nobody, settings={"hang": "on"}) as migration:
        with pytest.raises(TimeoutError):
            migration.send.wait_event(event="no such thing", timeout=1)
        assert migration.send.alive()
        assert migration.send.kill().code == -9
        with pytest.raises(AssertionError):
            migration.complete()
    assert not os.path.exists(f"/proc/{migration.send.pid}")


@pytest.mark.parametrize("channels", [0, 2])
def test_stock_migration_and_the_silence_around_it(make_guest, hosts, channels):
    guest = make_guest(memory=stock.memory(256 * MIB), netns=hosts.a.netns, load={"mem": 64, "rate": 4096}).wait_ready()
    copy = make_guest.destination(guest, netns=hosts.b.netns)
    guest.serial.wait_ticks(50)
    wire, since = hosts.a.counters()[0], time.monotonic()
    report = stock.migrate(guest, copy, hosts.b.address, channels=channels)
    copy.serial.wait_ticks(50)
    found = silence.measure(guest.serial, copy.serial, since=since)
    assert report["status"] == "completed" and report["downtime"] >= 0
    assert hosts.a.counters()[0] - wire > 64 * MIB
    assert found.across and found.jumps == [] and found.errors == [] and found.errors_counted == 0
    assert found.longest >= found.handover > 0
    assert guest.qmp.status() == "postmigrate" and copy.qmp.status() == "running"


def test_stock_migration_leaves_equal_memory(make_guest):
    """Without `cont` nothing runs at the destination, and the oracle can look at both."""
    guest = make_guest(memory=stock.memory(256 * MIB), load={"mem": 64, "rate": 4096}).wait_ready()
    copy = make_guest.destination(guest)
    uri = f"unix:{copy.directory}/stream"
    copy.qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    guest.qmp.wait_until(lambda qmp: qmp.execute("query-migrate").get("status") == "completed", 60)
    copy.qmp.wait_until(lambda qmp: qmp.status() == "paused", 60)
    assert oracle.compare_ram(guest, copy) == {}
    with open(copy.ram_paths[0], "r+b") as file:
        byte = os.pread(file.fileno(), 1, 4096 * 4321)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), 4096 * 4321)
    assert oracle.compare_ram(guest, copy) == {"ram0": [4321]}
