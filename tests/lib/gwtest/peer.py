# SPDX-License-Identifier: Apache-2.0
"""A godwit that is none: a scripted peer. It speaks docs/protocol.md, and lies where a test wants it to.

    peer_destination.Destination  what `send` connects to
    peer_source.Source            what connects to `receive`

Both have the control connection in `talk`, and play their part honestly up to a stage that the test names.
"""
import queue
import socket
import threading
import time

from . import wire

PATIENCE = 30  # s; only a hang takes so long


class Talk:
    """A control connection. A thread reads what comes, another one says each second that we live.

    heard   every message that came, pings left out
    """

    def __init__(self, sock, pings=True):
        self.sock = sock
        self.heard = []
        self._messages = queue.SimpleQueue()
        self._lock = threading.Lock()  # one message at a time
        self._over = threading.Event()
        self._pings = pings
        self._reads = threading.Event()
        self._reads.set()
        for run in (self._read, self._ping):
            threading.Thread(target=run, name="peer", daemon=True).start()

    def _read(self):
        try:
            while True:
                self._reads.wait()
                body = wire.read_message(self.sock)
                if body.get("type") != "ping":
                    self.heard.append(body)
                    self._messages.put(body)
        except (wire.Ended, OSError):
            pass
        self._over.set()
        self._messages.put(None)

    def _ping(self):
        while not self._over.wait(1):
            if self._pings:
                try:
                    self.send({"type": "ping"})
                except OSError:
                    return

    def mute(self):
        """No pings from now on."""
        self._pings = False

    def deaf(self):
        """Reads nothing from the next message on."""
        self._reads.clear()

    def send(self, body):
        """An object, or bytes that are to look like one. Fails with OSError when the other one has gone."""
        self.send_bytes(wire.message(body))

    def send_bytes(self, data):
        with self._lock:
            self.sock.sendall(data)

    def receive(self, timeout=PATIENCE):
        """The next message; None when the connection is over."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"nothing came but {self.heard[-3:]}") from None

    def wait_over(self, timeout=PATIENCE):
        """Waits until the other one has closed. Returns what it said that nobody had asked for."""
        deadline = time.monotonic() + timeout
        said = []
        while (body := self.receive(max(0, deadline - time.monotonic()))) is not None:
            said.append(body)
        return said

    def close(self):
        self._over.set()
        self._reads.set()
        hang_up(self.sock)


def hang_up(sock):
    """Closes, also under a thread that reads."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
