# SPDX-License-Identifier: Apache-2.0
"""Stands between godwit and a QMP monitor: counts commands, and lets one of them go wrong.

It sees what godwit says and nothing else, so the Nth command of a kind is always the same one. The process behind the
socket is then this one: godwit needs --pid."""
import collections
import json
import os
import socket
import threading
import time


class Rule:
    """One command, or every one of a kind, that goes wrong: it is not passed on.

    nth      counts from 1; 0 is every one
    after    a command: what came before it does not count
    hang     no answer at all, instead of an error
    does     it is passed on nevertheless, and this command behind it
    """

    def __init__(self, command, nth=1, after=None, hang=False, does=None):
        self.command, self.nth, self.after, self.hang, self.does = command, nth, after, hang, does
        self._armed = after is None
        self._count = 0

    def meets(self, command):
        armed, self._armed = self._armed, self._armed or command == self.after
        if not armed or command != self.command:
            return False
        self._count += 1
        return self.nth in (0, self._count)


class Monitor:
    """Use as a context manager, or call close().

    qmp_path  where it listens
    seen      Counter of the commands that came
    rules     list of Rule; may be changed at any time
    """

    def __init__(self, path, there, *rules, rewrite=None):
        """path: where to listen; there: the VMM's own socket; rewrite(line): bytes in place of a line of the VMM's."""
        self.qmp_path, self._there = path, there
        self._rewrite = rewrite
        self.rules = list(rules)
        self.seen = collections.Counter()
        self.answered_at = None  # time.monotonic() at which thaw() let the first answer through
        self._freeze_at = None  # the command that freezes it
        self._thawed = threading.Event()
        self._thawed.set()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(8)
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self._thawed.set()
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(30)
            self._socket.close()
            self._socket = None
            os.unlink(self.qmp_path)

    def freeze(self, at=None):
        """The VMM's answers and events are kept back: a monitor that hangs. `at`: from that command on, which it gets."""
        if at is None:
            self._thawed.clear()
        self._freeze_at = at

    def thaw(self):
        self.answered_at = time.monotonic()
        self._thawed.set()

    def _run(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(self._there)
                back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
                back.start()
                self._commands(client, server)
                back.join(30)

    def _answers(self, server, client):
        rest = b""
        try:
            while data := server.recv(1 << 16):
                self._thawed.wait()
                if self._rewrite:
                    *lines, rest = (rest + data).split(b"\n")
                    data = b"".join(self._rewrite(line) + b"\n" for line in lines)
                client.sendall(data)
        except OSError:
            pass
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _commands(self, client, server):
        rest, fds = b"", []
        try:
            while True:
                data, new, _, _ = socket.recv_fds(client, 1 << 16, 8)
                fds += new
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    passed = self._passed_on(line, client)
                    if passed:
                        socket.send_fds(server, [passed], fds)
                        self._close(fds)
        except OSError:
            pass
        self._close(fds)
        try:
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    @staticmethod
    def _close(fds):
        while fds:
            os.close(fds.pop())

    def _passed_on(self, line, client):
        """What the VMM gets for a line of godwit's; nothing when the command goes wrong."""
        try:
            request = json.loads(line)
        except ValueError:  # the byte that sets QEMU's parser back
            return line + b"\n"
        name = request["execute"]
        self.seen[name] += 1
        if name == self._freeze_at:
            self.freeze()
        met = [rule for rule in self.rules if rule.meets(name)]
        if not met:
            return line + b"\n"
        if not met[0].hang:
            error = {"class": "GenericError", "desc": f"the test refuses {name}"}
            client.sendall(json.dumps({"error": error, "id": request.get("id")}).encode() + b"\r\n")
        if met[0].does:
            return line + b"\n" + json.dumps({"execute": met[0].does, "id": "the test's own"}).encode() + b"\n"
        return b""
