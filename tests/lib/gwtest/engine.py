# SPDX-License-Identifier: Apache-2.0
"""godwit itself: one side, or both sides of one migration."""
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from . import cpu, places, process
from .qmp import Qmp

PORT = 4914
_ports = itertools.count(PORT + os.getpid() % 20000)


def next_port():
    """One that no other migration of this process has had."""
    return next(_ports)


@functools.lru_cache(maxsize=None)
def trackers():
    """The trackers that this kernel has, by what godwit found in it."""
    found = subprocess.run([places.godwit(), "probe", "--json"], stdout=subprocess.PIPE, check=False).stdout
    best = json.loads(found)["tracker"]
    return {"async": ["async", "sync"], "sync": ["sync"]}.get(best, [])


class Result:
    """How a godwit ended.

    code    exit status: 0 completed, 1 failed or cancelled, 2 wrong use, 3 in doubt; negative: killed by that signal
    report  the JSON object of --json, or None
    stderr  what it said to people
    events  the objects of --events
    """

    def __init__(self, code, report, stderr, events):
        self.code, self.report, self.stderr, self.events = code, report, stderr, events

    def __repr__(self):
        return f"Result(code={self.code}, report={self.report}, stderr={self.stderr!r})"


class Engine:
    """One godwit process. Use as a context manager, or call close()."""

    def __init__(self, *args, netns=None, settings=None, fault=None, env=None, machine=True, prefix=()):
        """
        args      as typed behind "godwit"
        settings  {name: value} for --set
        fault     a plan for GODWIT_FAULT
        machine   adds --json, --events and --control
        prefix    a command that becomes godwit, such as ("prlimit", "--nofile=20")
        """
        self._directory = tempfile.mkdtemp(prefix="gwtest-engine-", dir="/dev/shm")
        self.events_path = os.path.join(self._directory, "events")
        self.control_path = os.path.join(self._directory, "control")
        self.args = [*prefix, places.godwit(), *map(str, args)]
        for name, value in (settings or {}).items():
            self.args += ["--set", f"{name}={value}"]
        if machine:
            self.args += ["--json", "--events", self.events_path, "--control", self.control_path]
        environment = {**os.environ, **(env or {})}
        if fault:
            environment["GODWIT_FAULT"] = fault
        self._seen = 0
        self._result = None
        self._cpu = 0.0
        with open(self._file("stdout"), "wb") as out, open(self._file("stderr"), "wb") as err:
            self._child = process.spawn(self.args, netns=netns, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                        env=environment)

    def _file(self, name):
        return os.path.join(self._directory, name)

    def _read(self, name):
        with open(self._file(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def pid(self):
        return self._child.pid

    def alive(self):
        # Without reaping: the CPU time of a process that ended is there until somebody waits for it.
        if self._child.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def events(self):
        """The objects of --events so far; a line that is still being written is left for the next time."""
        if not os.path.exists(self.events_path):
            return []
        lines = self._read("events").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def wait_event(self, condition=None, timeout=places.patience(60), **match):
        """The next event, behind the one that the last call returned, that has all of `match` and for which
        condition(event) is true. Fails when the process ends first."""
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.alive()
            events = self.events()
            for i in range(self._seen, len(events)):
                if match.items() <= events[i].items() and (condition is None or condition(events[i])):
                    self._seen = i + 1
                    return events[i]
            if ended or time.monotonic() > deadline:
                why = "ended" if ended else "is silent"
                raise TimeoutError(f"godwit {why} without {match or condition}: {events[-3:]} {self._read('stderr')}")
            time.sleep(0.005)

    def wait_listening(self, port, timeout=places.patience(30)):
        """Waits until this process's namespace listens on a TCP port. Does not connect: receive serves only one."""
        deadline = time.monotonic() + timeout
        while True:
            if not self.alive():
                raise RuntimeError(f"godwit ended: {self.wait()}")
            if self._listens(port):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"godwit does not listen on {port}: {self._read('stderr')}")
            time.sleep(0.01)

    def _listens(self, port):
        """A process that has just ended has no tables any more: that it ended is seen by whoever asks again."""
        try:
            for table in ("tcp", "tcp6"):
                with open(f"/proc/{self.pid}/net/{table}", encoding="ascii") as file:
                    for line in file.readlines()[1:]:
                        words = line.split()
                        if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                            return True
        except (FileNotFoundError, ProcessLookupError):
            pass
        return False

    def control(self, timeout=places.patience(30)):
        """A new connection to --control."""
        return Qmp(self.control_path, timeout)

    def wait(self, timeout=places.patience(120)):
        """Waits for the end. Kills it and fails when it takes longer."""
        deadline = time.monotonic() + timeout
        while self._result is None:
            if not self.alive():
                self._cpu = cpu.seconds(self.pid) or self._cpu
                code = process.kill(self._child)
                text = self._read("stdout")
                report = json.loads(text) if text.strip().startswith("{") else None
                self._result = Result(code, report, self._read("stderr"), self.events())
            elif time.monotonic() > deadline:
                tail = self.events()[-5:]
                self.kill()
                raise TimeoutError(f"godwit did not end: {tail} {self._read('stderr')}")
            else:
                time.sleep(0.005)
        return self._result

    def signal(self, number):
        """Sends a signal, by process id."""
        os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, as a crash would be."""
        if self.alive():
            self.signal(signal.SIGKILL)
        return self.wait()

    def cpu_seconds(self):
        """CPU time so far, or in all when it has ended."""
        if self._result is None:
            self._cpu = cpu.seconds(self.pid) or self._cpu
        return self._cpu

    def close(self):
        """Kills it if it runs, and deletes its files."""
        process.kill(self._child)
        shutil.rmtree(self._directory, ignore_errors=True)


class Migration:
    """Both sides of one migration. `send` and `receive` are Engines. Use as a context manager, or call close().

    source, destination  guests (real or stunt); anything with `qmp_path` and `netns`
    hosts                netns.Hosts; without it the link is the loopback of this machine
    settings             --set for the source side
    through              through(port of receive) is the port that send is given: something that stands between them
    """

    def __init__(self, source, destination, hosts=None, settings=None, receive_settings=None, fault=None,
                 receive_fault=None, send_args=(), receive_args=(), port=None, through=None):
        self.source, self.destination = source, destination
        address = hosts.b.address if hosts else "127.0.0.1"
        self.port = port or (PORT if hosts else next(_ports))
        self.address = f"tcp:{address}:{self.port}"
        self.send = None
        self.receive = Engine("receive", "--qmp", destination.qmp_path, "--listen", self.address, *receive_args,
                              netns=hosts.b.netns if hosts else None, settings=receive_settings, fault=receive_fault)
        try:
            self.receive.wait_listening(self.port)
            self.began = time.monotonic()
            to = f"tcp:{address}:{through(self.port)}" if through else self.address
            self.send = Engine("send", "--qmp", source.qmp_path, "--to", to, *send_args,
                               netns=hosts.a.netns if hosts else None, settings=settings, fault=fault)
        except BaseException:
            self.close()
            raise

    def wait(self, timeout=places.patience(120)):
        """(Result of send, Result of receive)."""
        deadline = time.monotonic() + timeout
        sent = self.send.wait(timeout)
        return sent, self.receive.wait(max(5, deadline - time.monotonic()))

    def complete(self, timeout=places.patience(120)):
        """Waits, fails unless both sides completed, and returns the source's report."""
        sent, received = self.wait(timeout)
        assert sent.code == 0 and received.code == 0, f"migration failed: {sent} {received}"
        assert sent.report and sent.report.get("status") == "completed", f"no report of completion: {sent}"
        return sent.report

    def cpu_seconds(self):
        """Of both sides."""
        return self.send.cpu_seconds() + self.receive.cpu_seconds()

    def close(self):
        for engine in (self.send, self.receive):
            if engine is not None:
                engine.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
