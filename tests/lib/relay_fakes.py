# SPDX-License-Identifier: Apache-2.0
"""What stands for QEMUs where only the carrying matters."""
import contextlib
import socket
import sys
import threading

from gwtest import process

MIB = 1 << 20

# Sends some MiB, closes its direction, and wants all of it back, reversed in nothing.
_TALKER = """
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.settimeout(50)
s.connect(sys.argv[1])
data = os.urandom(1 << 20) * 4
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = bytearray()
while more := s.recv(1 << 16):
    back += more
sys.exit(0 if back == data else 1)
"""


@contextlib.contextmanager
def talk(path, number):
    """A process that talks to Echo through whatever listens at `path`; its exit status is 0 when all came back."""
    child = process.spawn([sys.executable, "-c", _TALKER, path, str(number)])
    try:
        yield child
    finally:
        process.kill(child)


class Echo:
    """Gives back what it is sent. Use as a context manager."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    @staticmethod
    def _echo(client):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                client.sendall(data)
        client.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._listener.close()
