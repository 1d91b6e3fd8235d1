# SPDX-License-Identifier: Apache-2.0
"""A wire that can go bad: stands between `send` and `receive`, at the address that `send` is given."""
import select
import socket
import struct
import threading
import time

ROLE_CONTROL = 1
_HELLO = struct.Struct("<8sHB")


class Drip:
    """Carries everything both ways until drip() or cut(). Use as a context manager, or call close().

    port  where it listens, on the loopback
    """

    def __init__(self, there):
        """there: the port of `receive`, on the loopback."""
        self._there = there
        self._lock = threading.Lock()
        self._gap, self._dead = None, False
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def drip(self, gap):
        """From now on everything but the control connection carries a byte every `gap` seconds, each way."""
        self._gap = gap

    def cut(self):
        """From now on nothing is carried, and nobody is told: a dead cable."""
        self._dead = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        with self._lock:
            everything, self._open = self._open + [self._listener], None
        for s in everything:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def _keep(self, *sockets):
        with self._lock:
            if self._open is None:
                raise OSError("closed")
            self._open += sockets

    def _accept(self):
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._there))
                self._keep(client, server)
                for s in (client, server):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                hello = client.recv(_HELLO.size, socket.MSG_PEEK | socket.MSG_WAITALL)
                steady = len(hello) == _HELLO.size and _HELLO.unpack(hello)[2] == ROLE_CONTROL
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(one, other, steady), daemon=True).start()
        except OSError:
            pass

    def _carry(self, one, other, steady):
        try:
            while True:
                select.select([one], [], [], 0.02)
                if self._dead:
                    time.sleep(0.02)
                    continue
                slow = self._gap is not None and not steady
                try:
                    data = one.recv(1 if slow else 1 << 16, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
                if not data:
                    break
                other.sendall(data)
                if slow:
                    time.sleep(self._gap)
        except (OSError, ValueError):
            pass
        for s in (one, other):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
