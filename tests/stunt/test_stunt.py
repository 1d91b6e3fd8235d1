# SPDX-License-Identifier: Apache-2.0
"""The stunt guest against itself: two of them, driven over QMP by hand, their RAM copied by hand.

STUNT names the binary (default build/tests/stunt/stunt).
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUNT = os.environ.get("STUNT", str(ROOT / "build/tests/stunt/stunt"))
PATIENCE = 60  # seconds; only a hang takes so long
MIB = 1 << 20


class QmpError(Exception):
    pass


class Qmp:
    """A client: commands and answers, events aside."""

    def __init__(self, path, negotiate=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.buffer = b""
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self("qmp_capabilities")

    def read(self):
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the stunt closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def answer(self):
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def raw(self, data, fds=()):
        socket.send_fds(self.sock, [data], list(fds))
        return self.answer()

    def __call__(self, command, fds=(), **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        answer = self.raw(json.dumps({"execute": command, "arguments": arguments, "id": 7}).encode(), fds)
        assert answer["id"] == 7
        if "error" in answer:
            raise QmpError(f"{answer['error']['class']}: {answer['error']['desc']}")
        return answer["return"]

    def capabilities(self, *names):
        self("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in names])

    def wait(self, command, field, *values):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            answer = self(command)
            if answer.get(field) in values:
                return answer
            time.sleep(0.005)
        raise AssertionError(f"{command} stays at {answer}")

    def wait_migration(self, *values):
        return self.wait("query-migrate", "status", *values)

    def wait_stamps(self, more):
        """Until the guest has written that many pages more; how many it has written then."""
        goal = self("stunt-stats")["stamps"] + more
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            stamps = self("stunt-stats")["stamps"]
            if stamps >= goal:
                return stamps
            time.sleep(0.005)
        raise AssertionError("the guest does not get on")

    def event_names(self):
        self("query-status")  # whatever was on its way is in front of this answer
        return [event["event"] + (":" + event["data"]["status"] if event["event"] == "MIGRATION" else "")
                for event in self.events if event["event"] != "MIGRATION_PASS"]

    def close(self):
        self.sock.close()


class Stunt:
    def __init__(self, folder, name, *args, size="16M", ram="ram0"):
        self.path = str(folder / f"{name}.qmp")
        self.ram = folder / f"{name}.ram"
        self.errors = folder / f"{name}.err"
        self.stats = folder / f"{name}.stats"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen([STUNT, "--qmp", self.path, "--ram", f"{ram},size={size},path={self.ram}",
                                             "--stats", str(self.stats), *args], stderr=errors)

    def connect(self, **kwargs):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return Qmp(self.path, **kwargs)
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"no stunt: {self.errors.read_text()}") from None
                time.sleep(0.01)

    def wait(self):
        return self.process.wait(PATIENCE)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def folder():
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="stunt-test-", dir=base) as path:
        yield pathlib.Path(path)


@pytest.fixture
def start(folder):
    stunts = []

    def begin(name, *args, **kwargs):
        stunts.append(Stunt(folder, name, *args, **kwargs))
        return stunts[-1]

    yield begin
    for stunt in stunts:
        stunt.end()


LOAD = "uniform,rate=40M,hot=8M,write=4096"


def pump(source, target):
    """Passes the device state on and returns how much it was."""
    total = 0
    while data := source.recv(1 << 16):
        target.sendall(data)
        total += len(data)
    target.shutdown(socket.SHUT_WR)
    return total


class Pair:
    """A source and a destination, and the wire between them."""

    def __init__(self, start, load=LOAD, source_args=(), target_args=(), **kwargs):
        common = ["--load", load, "--cpus", "2", "--seed", "7"]
        self.source = start("source", "--fill", "50", *common, *source_args, **kwargs)
        self.target = start("target", "-incoming", "defer", "-S", *common, *target_args, **kwargs)
        self.out, self.into = self.source.connect(), self.target.connect()
        for qmp in self.out, self.into:
            qmp.capabilities("events", "x-ignore-shared")
        self.out.capabilities("pause-before-switchover")

    def send(self, qmp, command):
        """Gives QEMU's end of a socket to it; ours comes back."""
        ours, theirs = socket.socketpair()
        with theirs:
            qmp("getfd", [theirs.fileno()], fdname="state")
        qmp(command, uri="fd:state")
        return ours

    def stop_source(self):
        self.out.wait_stamps(500)
        self.state = self.send(self.out, "migrate")
        self.received = b""

        def drain():
            while data := self.state.recv(1 << 16):
                self.received += data

        self.thread = threading.Thread(target=drain, daemon=True)
        self.thread.start()
        self.out.wait_migration("pre-switchover")

    def copy_ram(self):
        subprocess.run(["cp", "--sparse=never", self.source.ram, self.target.ram], check=True)

    def let_through(self):
        self.out("migrate-continue", state="pre-switchover")
        self.out.wait_migration("completed")
        self.thread.join(PATIENCE)
        self.state.close()
        with self.send(self.into, "migrate-incoming") as state:
            try:
                state.sendall(self.received)
            except BrokenPipeError:
                pass  # it has seen enough


def test_load_goes_on_at_the_destination(start):
    pair = Pair(start)
    assert pair.out("query-status") == {"status": "running", "singlestep": False, "running": True}
    assert pair.into("query-status")["status"] == "inmigrate"
    pair.stop_source()
    assert pair.out("query-status")["status"] == "finish-migrate"
    assert pair.out("stunt-stats")["running"] is False
    total = pair.out("query-migrate")["ram"]["total"]
    assert 0 < total < 32 * MIB  # without the guest's own RAM the figure does not depend on it
    pair.copy_ram()
    before = pair.out("stunt-stats")["stamps"]
    pair.let_through()
    pair.into.wait_migration("completed")
    assert pair.into("query-status")["status"] == "paused"
    assert pair.into("stunt-stats") == {"stamps": before, "bytes-dirtied": before * 4096, "running": False}
    assert pair.source.ram.read_bytes() == pair.target.ram.read_bytes()
    pair.into("cont")
    assert pair.into.wait_stamps(2000) > before
    assert pair.out("query-status")["status"] == "postmigrate"
    assert pair.out("stunt-stats")["stamps"] == before
    pair.into("stop")
    pair.into("stunt-check")
    assert pair.out.event_names() == ["MIGRATION:setup", "MIGRATION:active", "STOP", "MIGRATION:pre-switchover",
                                      "MIGRATION:device", "MIGRATION:completed"]
    assert pair.into.event_names()[-3:] == ["MIGRATION:completed", "RESUME", "STOP"]
    for stunt, qmp in (pair.source, pair.out), (pair.target, pair.into):
        qmp("quit")
        assert stunt.wait() == 0 and stunt.errors.read_text() == ""


@pytest.mark.parametrize("load", ["idle", "uniform,rate=40M,hot=8M,same=1", "zipf,write=8,skew=3", "sweep,rate=100M",
                                  "burst,on=0.05,off=0.02,rate=80M", "grow,rate=80M", "uniform,write=4096,threads=1"])
def test_every_load_travels(start, load):
    pair = Pair(start, load)
    if load == "idle":
        pair.out.wait_stamps = lambda more: None
        pair.into.wait_stamps = lambda more: None
    pair.stop_source()
    pair.copy_ram()
    pair.let_through()
    pair.into.wait_migration("completed")
    pair.into("cont")
    pair.into.wait_stamps(500)
    pair.into("stop")
    pair.into("stunt-check")
    assert pair.target.errors.read_text() == ""


def test_a_missing_page_is_caught(start):
    pair = Pair(start)
    pair.stop_source()
    pair.copy_ram()
    data = pair.source.ram.read_bytes()
    page = next(at for at in range(100, len(data) // 4096) if any(data[at * 4096:(at + 1) * 4096]))
    with open(pair.target.ram, "r+b") as ram:
        ram.seek(page * 4096 + 4088)
        ram.write(bytes(8) if any(data[page * 4096 + 4088:page * 4096 + 4096]) else b"differs.")
    pair.let_through()
    assert pair.target.wait() == 1
    assert f"ram0 differs from the source, first in page {page}\n" in pair.target.errors.read_text()
    assert "load of migration failed" in pair.target.errors.read_text()
    assert not os.path.exists(pair.target.path)


def test_the_checker_finds_an_old_page_that_nobody_hashed(start):
    pair = Pair(start, "sweep,write=8,hot=1M", source_args=["--no-hash"], target_args=["--no-check"])
    pair.stop_source()
    pair.copy_ram()
    with open(pair.target.ram, "r+b") as ram:
        ram.write(bytes(4096))
    pair.let_through()
    pair.into.wait_migration("completed")
    with pytest.raises(QmpError, match="page 0 of thread 0 is wrong"):
        pair.into("stunt-check")
    pair.into.sock.sendall(b'{"execute": "cont"}')  # it may well be gone before it answers
    assert pair.target.wait() == 3
    assert "stunt: page 0 of thread 0 is wrong" in pair.target.errors.read_text()


def test_a_hole_is_a_page_of_zeros(start):
    """The source has pages of zeros where the destination has holes; and looking fills no hole."""
    pair = Pair(start, source_args=["--mix", "0,0,0,100"])
    pair.stop_source()
    subprocess.run(["cp", "--sparse=always", pair.source.ram, pair.target.ram], check=True)
    blocks = pair.target.ram.stat().st_blocks
    assert blocks < pair.source.ram.stat().st_blocks
    pair.let_through()
    pair.into.wait_migration("completed")
    assert pair.target.ram.stat().st_blocks == blocks


def test_cancel_in_pre_switchover(start):
    pair = Pair(start)
    pair.stop_source()
    stamps = pair.out("stunt-stats")["stamps"]
    with pytest.raises(QmpError, match="Migration is not finalized yet"):
        pair.out("cont")
    with pytest.raises(QmpError, match="There's a migration process in progress"):
        pair.out.capabilities("events")
    with pytest.raises(QmpError, match="There's a migration process in progress"):
        pair.out("migrate", uri="fd:state")
    with pytest.raises(QmpError, match="Migration not in expected state: pre-switchover"):
        pair.out("migrate-continue", state="device")
    pair.out("migrate_cancel")
    pair.out.wait_migration("cancelled")
    assert pair.out.wait_stamps(500) > stamps
    assert pair.out.event_names()[-4:] == ["MIGRATION:pre-switchover", "MIGRATION:cancelling", "RESUME",
                                           "MIGRATION:cancelled"]
    pair.thread.join(PATIENCE)
    pair.stop_source()  # and once more, this time to the end
    pair.copy_ram()
    pair.let_through()
    pair.into.wait_migration("completed")


def test_cancel_of_a_paused_guest_leaves_it_stopped(start):
    pair = Pair(start)
    pair.out("stop")
    pair.out.wait_stamps = lambda more: None
    pair.stop_source()
    pair.out("migrate_cancel")
    pair.out.wait_migration("cancelled")
    assert pair.out("query-status") == {"status": "postmigrate", "singlestep": False, "running": False}
    pair.out("cont")
    assert pair.out("query-status")["status"] == "running"


def test_a_broken_stream_lets_the_source_run_on(start):
    pair = Pair(start)
    state = pair.send(pair.out, "migrate")
    pair.out.wait_migration("pre-switchover", "active")
    while pair.out("query-migrate")["status"] == "active":
        state.recv(4096)
    state.close()
    pair.out("migrate-continue", state="pre-switchover")
    assert "error-desc" in pair.out.wait_migration("failed")
    assert pair.out("query-status")["running"] is True
    pair.out.wait_stamps(100)


def test_a_stream_that_nobody_reads_can_be_cancelled(start):
    pair = Pair(start, source_args=["--device-bytes", "64M"])
    with pair.send(pair.out, "migrate"):
        pair.out.wait_migration("active")
        pair.out("migrate_cancel")
        pair.out.wait_migration("cancelled")
    assert pair.out("query-status")["running"] is True


@pytest.mark.parametrize("args,cut,message", [
    (["--fail-load"], None, "--fail-load"),
    ([], 5000, "ended early"),
    (["--cpus", "3"], None, "number of CPUs"),
])
def test_a_state_that_does_not_fit_ends_the_destination(start, args, cut, message):
    pair = Pair(start, target_args=args)
    pair.stop_source()
    pair.copy_ram()
    pair.out("migrate-continue", state="pre-switchover")
    pair.out.wait_migration("completed")
    pair.thread.join(PATIENCE)
    with pair.send(pair.into, "migrate-incoming") as state:
        try:
            state.sendall(pair.received[:cut])
        except BrokenPipeError:
            pass
    assert pair.target.wait() == 1
    assert message in pair.target.errors.read_text()


def test_the_destination_runs_by_itself_without_S(start):
    pair = Pair(start)
    pair.into("cont")  # in inmigrate it sets autostart
    pair.stop_source()
    pair.copy_ram()
    pair.let_through()
    pair.into.wait("query-status", "status", "running")
    pair.into.wait_stamps(100)


def test_incoming_is_heard_once_and_only_where_it_was_asked_for(start):
    pair = Pair(start)
    with pytest.raises(QmpError, match="'-incoming' was not specified on the command line"):
        pair.out("migrate-incoming", uri="fd:x")
    with pytest.raises(QmpError, match="Guest is waiting for an incoming migration"):
        pair.into("migrate", uri="fd:x")
    with pair.send(pair.into, "migrate-incoming"):
        with pytest.raises(QmpError, match="The incoming migration has already been started"):
            pair.into("migrate-incoming", uri="fd:x")
        pair.into("quit")
        assert pair.target.wait() == 0


def test_ram_counts_when_it_is_not_ignored(start):
    stunt = start("one", size="64M")
    qmp = stunt.connect()
    qmp.capabilities("pause-before-switchover")
    for capability, state, least in ("x-ignore-shared", False, 64), ("x-ignore-shared", True, 0):
        qmp("migrate-set-capabilities", capabilities=[{"capability": capability, "state": state}])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            qmp("getfd", [theirs.fileno()], fdname="state")
            theirs.close()
            qmp("migrate", uri="fd:state")
            threading.Thread(target=lambda end: [None for _ in iter(lambda: end.recv(1 << 16), b"")],
                             args=(ours.dup(),), daemon=True).start()
            total = qmp.wait_migration("pre-switchover")["ram"]["total"]
            assert (total >= least * MIB) and (total < 64 * MIB or least)
            qmp("migrate_cancel")
            qmp.wait_migration("cancelled")


def test_refuse(start):
    qmp = start("one", "--refuse", "stop:2", "--refuse", "cont").connect()
    qmp("stop")
    with pytest.raises(QmpError, match="GenericError: stunt refuses stop"):
        qmp("stop")
    qmp("stop")
    for _ in range(2):
        with pytest.raises(QmpError, match="GenericError: stunt refuses cont"):
            qmp("cont")
    assert qmp("query-status")["status"] == "paused"


def test_hang(start):
    qmp = start("one", "--hang", "query-uuid").connect()
    qmp.sock.sendall(b'{"execute": "query-uuid", "id": 1}')
    assert qmp("query-version")["qemu"]["major"] == 7  # the only answer that comes


def test_die(start):
    stunt = start("one", "--die", "stop:2")
    qmp = stunt.connect()
    qmp("stop")
    with pytest.raises((EOFError, ConnectionResetError)):
        qmp("stop")
    assert stunt.wait() == 4


def test_reconnect(start):
    stunt = start("one", "--load", "uniform,rate=8M")
    first = stunt.connect()
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(stunt.path)  # gets through, but is not served
    first("stop")
    with pytest.raises(BlockingIOError):
        waiting.recv(1, socket.MSG_DONTWAIT)
    first.sock.sendall(b'{"execute": "cont"}{"execute": ')  # leaves in mid-sentence
    first.close()
    waiting.settimeout(PATIENCE)
    assert b'"QMP"' in waiting.recv(4096)
    waiting.close()
    last = stunt.connect(negotiate=False)
    with pytest.raises(QmpError, match="CommandNotFound: Expecting capabilities negotiation"):
        last("query-status")
    last("qmp_capabilities")
    assert last("query-status")["running"] is True
    last.wait_stamps(100)


def test_named_descriptors(start):
    stunt = start("one")
    qmp = stunt.connect()
    with pytest.raises(QmpError, match="No file descriptor supplied via SCM_RIGHTS"):
        qmp("getfd", fdname="a")
    with open(os.devnull, "rb") as null:
        qmp("getfd", [null.fileno()], fdname="a")
        qmp("getfd", [null.fileno()], fdname="a")  # replaces
    qmp.close()
    qmp = stunt.connect()  # names outlive the client that gave them
    qmp("closefd", fdname="a")
    with pytest.raises(QmpError, match="File descriptor named 'a' not found"):
        qmp("closefd", fdname="a")
    with pytest.raises(QmpError, match="File descriptor named 'a' has not been found"):
        qmp("migrate", uri="fd:a")
    assert qmp("query-migrate")["status"] == "failed"


def test_what_it_says_of_itself(start, folder):
    stunt = start("one", "--cpus", "3", "--extra-object", "memory-backend-memfd:mem1", "--extra-device",
                  "nic0:virtio-net-pci", "--private-ram", "--machine", "pc-i440fx-7.2-machine")
    qmp = stunt.connect()
    assert qmp.greeting["QMP"]["version"]["qemu"] == {"major": 7, "minor": 2, "micro": 22}
    assert qmp("qom-list", path="/objects")[1:] == [{"name": "ram0", "type": "child<memory-backend-file>"},
                                                    {"name": "mem1", "type": "child<memory-backend-memfd>"}]
    assert {"name": "nic0", "type": "child<virtio-net-pci>"} in qmp("qom-list", path="/machine/peripheral")
    assert qmp("qom-get", path="/machine", property="type") == "pc-i440fx-7.2-machine"
    assert qmp("qom-get", path="/objects/ram0", property="mem-path") == str(stunt.ram)
    assert qmp("qom-get", path="/objects/ram0", property="size") == 16 * MIB
    assert qmp("qom-get", path="/objects/ram0", property="share") is False
    assert [dev["share"] for dev in qmp("query-memdev") if dev["id"] == "ram0"] == [False]
    for path in "/nope", "/objects/nope":
        with pytest.raises(QmpError, match=f"DeviceNotFound: Device '{path}' not found"):
            qmp("qom-list", path=path)
    threads = [cpu["thread-id"] for cpu in qmp("query-cpus-fast")]
    assert len(threads) == 3
    assert set(threads) <= {int(tid) for tid in os.listdir(f"/proc/{stunt.process.pid}/task")}
    maps = pathlib.Path(f"/proc/{stunt.process.pid}/maps").read_text()
    assert any(line.split()[1] == "rw-s" and line.endswith(str(stunt.ram)) for line in maps.splitlines())


def test_parameters_are_kept(start):
    qmp = start("one").connect()
    qmp("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=100, tls_creds="creds0", announce_rounds=3)
    values = qmp("query-migrate-parameters")
    assert (values["max-bandwidth"], values["downtime-limit"], values["tls-creds"], values["announce-rounds"]) == (
        1 << 40, 100, "creds0", 3)
    for arguments, message in (({"foo": 1}, "Parameter 'foo' is unexpected"),
                               ({"tls_creds": 5}, "Invalid parameter type for 'tls-creds'"),
                               ({"downtime_limit": 2000001}, "0 to 2000 seconds"),
                               ({"downtime_limit": -1}, "0 to 2000 seconds")):
        with pytest.raises(QmpError, match=message):
            qmp("migrate-set-parameters", **arguments)
    with pytest.raises(QmpError, match="does not accept value 'foo'"):
        qmp.capabilities("events", "foo")
    states = {item["capability"]: item["state"] for item in qmp("query-migrate-capabilities")}
    assert len(states) == 21 and not any(states.values())


def test_ill_formed_requests(start):
    qmp = start("one").connect()
    for request, message in ((b"[1]", "QMP input must be a JSON object"),
                             (b'{"execute":"stop",}\n', "JSON parse error"),
                             (b'{"execute":"stop","foo":1}', "QMP input member 'foo' is unexpected"),
                             (b'{"id":3}', "QMP input lacks member 'execute'"),
                             (b'{"execute":3}', "QMP input member 'execute' must be a string"),
                             (b'{"execute":"nonsense"}', "The command nonsense has not been found"),
                             (b'{"execute":"migrate"}', "Parameter 'uri' is missing"),
                             (b'{"execute":"migrate","arguments":{"uri":3}}', "Invalid parameter type for 'uri'"),
                             (b'{"execute":"stop","arguments":{"now":true}}', "Parameter 'now' is unexpected")):
        assert message in qmp.raw(request)["error"]["desc"]
    assert qmp("query-status")["running"] is True


def test_statistics_tell_when_it_ran(start):
    stunt = start("one", "--load", "uniform,rate=8M")
    qmp = stunt.connect()
    qmp.wait_stamps(50)
    qmp("stop")
    stamps = qmp("stunt-stats")["stamps"]
    qmp("quit")
    assert stunt.wait() == 0
    lines = [json.loads(line) for line in stunt.stats.read_text().splitlines()]
    assert [line["wall"] for line in lines] == sorted(line["wall"] for line in lines)
    assert [line["stamps"] for line in lines] == sorted(line["stamps"] for line in lines)
    stopped = [line["running"] for line in lines].index(False, [line["running"] for line in lines].index(True))
    assert all(line["stamps"] == stamps for line in lines[stopped:])


def test_it_ends_when_told_by_a_signal(start):
    stunt = start("one", "--load", "uniform")
    stunt.connect()
    stunt.process.terminate()
    assert stunt.wait() == 0
    assert not os.path.exists(stunt.path)


def test_content_is_decided_by_the_seed(start):
    contents = []
    for name, seed in ("a", "5"), ("b", "5"), ("c", "6"):
        stunt = start(name, "--seed", seed, "--fill", "40", "-S")
        assert stunt.connect()("query-status")["status"] == "prelaunch"
        contents.append(stunt.ram.read_bytes())
        assert stunt.ram.stat().st_blocks * 512 <= 0.41 * 16 * MIB
    assert contents[0] == contents[1] != contents[2]


def test_huge_pages(hugepages, start):
    folder = pathlib.Path(hugepages(32 * MIB).directory)
    args = ["--fill", "50", "--load", "sweep,hot=2M,write=8,rate=64M"]
    stunts = []
    for name, more in ("source", []), ("target", ["--incoming", "defer", "-S"]):
        stunts.append(start(name, "--ram", f"big,size=8M,path={folder / name}", *args, *more))
    out, into = (stunt.connect() for stunt in stunts)
    for qmp in out, into:
        qmp.capabilities("x-ignore-shared")
    state = [socket.socketpair(), socket.socketpair()]
    out.wait_stamps(100)
    out("getfd", [state[0][1].fileno()], fdname="s")
    state[0][1].close()
    out("stop")
    shutil.copyfile(stunts[0].ram, stunts[1].ram)
    copy_huge(folder / "source", folder / "target")
    out("migrate", uri="fd:s")
    into("getfd", [state[1][1].fileno()], fdname="s")
    state[1][1].close()
    into("migrate-incoming", uri="fd:s")
    assert pump(state[0][0], state[1][0]) > 0
    into.wait_migration("completed")
    assert into("query-status")["status"] == "paused"
    into("cont")
    into.wait_stamps(100)
    assert stunts[1].errors.read_text() == ""


def copy_huge(source, target):
    """A hugetlbfs file can be read, but only be written through a mapping."""
    import mmap
    with open(source, "rb") as a, open(target, "r+b") as b, mmap.mmap(b.fileno(), 8 * MIB) as to:
        to[:] = a.read()
