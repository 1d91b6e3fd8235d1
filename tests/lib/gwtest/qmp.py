# SPDX-License-Identifier: Apache-2.0
"""A QMP client. It also speaks to godwit's --control socket, which answers in the same way."""
import json
import socket
import time

from . import places


class QmpError(Exception):
    """The answer was an error. `class_` is QEMU's word for it."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('desc')}")
        self.class_ = error.get("class")
        self.desc = error.get("desc")


class Commands:
    """What can be said with execute() alone."""

    def wait_until(self, condition, timeout=places.patience(30), interval=0.05):
        """Calls condition(self) until it is true, and returns that."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition(self)
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError("the condition never came true")
            time.sleep(interval)

    def status(self):
        """running, paused, inmigrate, postmigrate, ..."""
        return self.execute("query-status")["status"]


class Qmp(Commands):
    """One connection. `events` holds every event that has arrived, oldest first."""

    def __init__(self, path, timeout=places.patience(30)):
        """Connects to a unix socket; waits for it to appear. `timeout` is for that and for each answer, in seconds."""
        self.path = path
        self.timeout = timeout
        self.events = []
        self._buffer = b""
        self._sent = 0
        deadline = time.monotonic() + timeout
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self._socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.greeting = self._read(deadline)
        self.execute("qmp_capabilities")

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _read(self, deadline):
        """The next message, of whatever kind."""
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing from {self.path}")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 16)
            except socket.timeout:
                continue
            if not data:
                raise ConnectionError(f"{self.path} was closed")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def execute(self, command, arguments=None, timeout=None, **more):
        """Runs a command and returns what it returns. Keyword arguments get "-" for "_"."""
        deadline = time.monotonic() + (timeout or self.timeout)
        arguments = {**(arguments or {}), **{k.replace("_", "-"): v for k, v in more.items()}}
        self._sent += 1
        message = {"execute": command, "id": self._sent}
        if arguments:
            message["arguments"] = arguments
        self._socket.settimeout(self.timeout)
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read(deadline)
            if "event" in answer:
                self.events.append(answer)
            elif answer.get("id") != self._sent:
                continue  # the answer to a command that timed out
            elif "error" in answer:
                raise QmpError(command, answer["error"])
            else:
                return answer["return"]

    def hmp(self, line):
        """A command of the human monitor."""
        return self.execute("human-monitor-command", {"command-line": line})

    def wait_event(self, name, timeout=places.patience(30), **data):
        """The first event of that name that has come or comes, whose data hold `data`. Takes it out of `events`."""
        deadline = time.monotonic() + timeout
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    return self.events.pop(i)
            message = self._read(deadline)
            if "event" in message:
                self.events.append(message)


class BriefQmp(Commands):
    """A connection for each command: for a VMM that takes one client at a time and must stay free for godwit. A command
    waits, within `timeout`, until the socket is free."""

    def __init__(self, path, timeout=places.patience(30)):
        self.path = path
        self.timeout = timeout

    def execute(self, command, arguments=None, timeout=None, **more):
        with Qmp(self.path, timeout or self.timeout) as qmp:
            return qmp.execute(command, arguments, **more)
