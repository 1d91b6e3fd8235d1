# SPDX-License-Identifier: Apache-2.0
"""A guest, a migration of it that goes wrong, and what must be true afterwards."""
import os
import subprocess
import time

import pytest

from gwtest import clean, engine as gw, oracle, places
from monitor import Monitor

PATIENCE = places.patience(45)  # seconds; only a hang takes so long

# In order. At the beginning of each of these the guest is still the source's.
STAGES = ["connect", "inspect", "attach", "ram-full", "iterate", "stop", "final", "device", "hand-over"]
# Those of them for which the destination has a half.
SERVED = ["inspect", "attach", "iterate", "stop", "final", "device"]
TRACKERS = ["async", "sync"]
# A stage is reached with the tracker at work from here on.
TRACKED = STAGES[3:]
# Up to its half of `inspect` nothing binds a receiver to a source: it waits for another.
UNBOUND = ["connect", "inspect"]
# The destination's VMM is as it was when these begin at the source.
REUSABLE = ["connect", "inspect", "attach", "ram-full", "iterate", "stop"]

# For tests that hold for both ways in which the device state goes. One that asks for its fixtures by name needs
# usefixtures("device_state") too.
BOTH_WAYS = pytest.mark.parametrize("device_state", ["migrate", "save"], indirect=True)
# For tests of what there is by QEMU's own migration alone: `make test-save` leaves them as they are.
BY_MIGRATE = pytest.mark.parametrize("device_state", ["migrate"], indirect=True)


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def needs_tracker(kind):
    """Skips the test when this kernel has no tracker of that kind; "auto" is whichever it has."""
    if kind != "auto" and kind not in gw.trackers():
        pytest.skip(f"this kernel has no {kind} tracker")


def processes_of(path):
    """{process id: name} of the godwits, guardians included, that were given a path on their command line."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                name = file.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith("godwit") and path.encode() in words:
            found[int(pid)] = name
    return found


def resolve(guest, *args):
    """What an operator types when an engine has left something."""
    return subprocess.run([places.godwit(), "resolve", "--qmp", guest.qmp_path, *args], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)


def words_of(engine):
    """What a godwit, or the guardian that survived it, has said so far."""
    with open(os.path.join(os.path.dirname(engine.events_path), "stderr"), encoding="utf-8") as file:
        return file.read()


def check_waits_on(receive, stage, *words):
    """The receiver has seen a source come and go, or nobody, and serves the next one."""
    if stage != "connect":
        why = receive.wait_event(event="refused", timeout=PATIENCE)["why"]
        for word in words:
            assert word in why, why
        assert "waiting for another" in words_of(receive)
    assert receive.alive()
    receive.kill()
    path = receive.args[receive.args.index("--qmp") + 1]
    wait_until(lambda: not processes_of(path), "its guardian ends, and the guest is free for the next receiver")


class Scene:
    """`source` is a guest (stunt.Stunt or bare.Bare) whose files are in `home`; `spare()` starts a destination for it.
    What it looks like is noted here: make the scene before anything happens to the guest."""

    def __init__(self, source, home, make_destination, stack, hosts=None, device_state=None):
        self.source, self.hosts, self.device_state = source, hosts, device_state
        self._make, self._stack = make_destination, stack
        self._count = 0
        self.monitored = [source.qmp_path]
        self._stunt = hasattr(source, "stats")
        self.before = clean.Snapshot(source, [home])
        self._home = home
        self._engines = []

    def left(self):
        """The state in which a source is that has handed its guest over."""
        return "paused" if self.device_state == "save" else "postmigrate"

    def spare(self, **options):
        """A fresh destination."""
        self._count += 1
        return self._make(self.source, name=f"{os.path.basename(self._home)}-there{self._count}", **options)

    def watch(self, guest, *rules, **options):
        """A Monitor on the way to a guest's QMP socket, for migrate()."""
        self._count += 1
        path = os.path.join(os.path.dirname(self._home), f"{os.path.basename(self._home)}.{self._count}")
        monitor = Monitor(path, guest.qmp_path, *rules, **options)
        self._stack.callback(monitor.close)
        self.monitored.append(path)
        return monitor

    def migrate(self, there, settings=None, source_monitor=None, there_monitor=None, **options):
        """gw.Migration; everything that a godwit would leave in the place for temporary files is noticed."""
        source = self.source
        if self.device_state:
            settings = {"device-state": self.device_state, **(settings or {})}
        needs_tracker((settings or {}).get("tracker", "auto"))
        if "hold@" in (options.get("fault") or ""):
            # A guest that a fault keeps standing is to wait for what the test is about, unless that is the limit.
            settings = {"stop-limit": 0, **(settings or {})}
        if places.patience(1) != 1:  # what the engine waits for, as we do; by default it is what stands here
            settings = {"stop-limit": int(places.patience(2300)), "progress-timeout": int(places.patience(60)),
                        **(settings or {})}
        if source_monitor:
            options["send_args"], source = ("--pid", source.pid), source_monitor
        if there_monitor:
            options["receive_args"], there = ("--pid", there.pid), there_monitor
        os.environ["TMPDIR"] = self._home
        try:
            migration = gw.Migration(source, there, hosts=self.hosts, settings=settings, **options)
        finally:
            del os.environ["TMPDIR"]
        self._stack.callback(migration.close)
        self._engines += [migration.send, migration.receive]
        return migration

    def send(self, peer, monitor=None, **options):
        """A godwit that sends the guest to a scripted peer (peer_destination.Destination); options of gw.Engine.
        `monitor`: of watch(), between it and the guest."""
        qmp = (monitor.qmp_path, "--pid", self.source.pid) if monitor else (self.source.qmp_path,)
        return self._start("send", "--qmp", *qmp, "--to", peer.address, **options)

    def receive(self, there=None, monitor=None, args=(), **options):
        """A godwit that receives for a fresh destination: it has `guest` and the `port` where it listens. `monitor`: of
        watch(), between it and the destination."""
        there, port = there or self.spare(), gw.next_port()
        qmp = (monitor.qmp_path, "--pid", there.pid) if monitor else (there.qmp_path,)
        engine = self._start("receive", "--qmp", *qmp, "--listen", f"tcp:127.0.0.1:{port}", *args, **options)
        engine.guest, engine.port = there, port
        engine.wait_listening(port)
        return engine

    def _start(self, *args, **options):
        engine = gw.Engine(*args, **options)
        self._stack.callback(engine.close)
        self._engines.append(engine)
        return engine

    def wait_gone(self):
        """No godwit works on the guests any more, guardians included."""
        wait_until(lambda: not any(processes_of(p) for p in self.monitored), "the last godwit of this guest ends")

    def check_runs_on(self):
        """The guest runs at the source as if nothing had been."""
        self.wait_gone()
        assert self.source.alive(), self.source.log()
        assert self.source.qmp.status() == "running"
        self.before.check()
        self.check_no_sockets()
        if self._stunt:
            self.check_works(self.source)

    def check_no_sockets(self):
        for engine in self._engines:
            if engine is not None and not engine.alive() and "send" in engine.args:
                assert not os.path.exists(engine.control_path), "a control socket was left"

    @staticmethod
    def check_works(stunt):
        """It writes, and what it reads back is what it wrote."""
        stamps = stunt.stats()["stamps"]
        wait_until(lambda: stunt.stats()["stamps"] > stamps, "the guest goes on writing")
        stunt.qmp.execute("stop")
        stunt.check()
        stunt.qmp.execute("cont")

    def check_retry(self, there=None):
        """A migration right afterwards succeeds, and what arrives is equal."""
        there = there or self.spare()
        self.migrate(there, settings={"autostart": "off"}).complete(PATIENCE)
        assert there.qmp.status() == "paused"
        assert oracle.compare_ram(self.source, there) == {}

    def check_failed(self, migration, code=1):
        """send ended on its own with that code. Returns its error: {stage, class, desc}."""
        return self.check_failed_alone(migration.send, code)

    @staticmethod
    def check_failed_alone(send, code=1):
        """The same of a send without a godwit at the other end."""
        sent = send.wait(PATIENCE)
        assert sent.code == code, sent
        error = sent.report["error"]
        lines = [line for line in sent.stderr.splitlines() if error["desc"] in line]
        assert len(lines) == 1, f"the cause is to be said once: {sent.stderr}"
        assert "runs on at the source" in sent.stderr or code != 1
        return error
