# SPDX-License-Identifier: Apache-2.0
"""What a guest says on its serial console, with the host's time on every line."""
import collections
import socket
import threading
import time

from . import places

Line = collections.namedtuple("Line", "time text")
Tick = collections.namedtuple("Tick", "time seq uptime dirtied checked disk_ops errors")


def parse_tick(line):
    """A Tick, or None when the line is no tick. `time` is host seconds, `uptime` guest milliseconds."""
    words = line.text.split()
    if len(words) != 7 or words[0] != "tick" or not all(w.isdigit() for w in words[1:]):
        return None
    return Tick(line.time, *map(int, words[1:]))


class Serial:
    """Reads a unix socket in a thread of its own for as long as it is open."""

    def __init__(self, path, timeout=places.patience(30)):
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
        self._lines = []
        self._rest = b""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="serial", daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                data = self._socket.recv(4096)
            except OSError:
                data = b""
            now = time.monotonic()
            with self._changed:
                if not data:
                    self._closed = True
                    self._changed.notify_all()
                    return
                *whole, self._rest = (self._rest + data).split(b"\n")
                self._lines += [Line(now, w.decode("utf-8", "replace").rstrip("\r")) for w in whole]
                self._changed.notify_all()

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self._socket.close()

    @property
    def lines(self):
        """All whole lines so far."""
        with self._changed:
            return list(self._lines)

    @property
    def rest(self):
        """The beginning of a line whose end has not come; after a migration its end comes from the destination."""
        with self._changed:
            return self._rest.decode("utf-8", "replace")

    def ticks(self):
        return [t for t in map(parse_tick, self.lines) if t]

    def errors(self):
        """Lines in which the guest complains, or its kernel does."""
        words = ("ERROR", "Kernel panic", "BUG:", "Oops", "segfault", "I/O error")
        return [line.text for line in self.lines if any(w in line.text for w in words)]

    def wait_line(self, condition, timeout=places.patience(30), after=0):
        """The first line at or behind index `after` for which condition(text) is true."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if condition(line.text):
                        return line
                after = max(after, len(self._lines))
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    tail = [line.text for line in self._lines[-5:]]
                    raise TimeoutError(f"the guest {'is gone' if self._closed else 'says no more'}; last: {tail}")
                self._changed.wait(left)

    def wait_ticks(self, count, timeout=places.patience(30)):
        """Waits for `count` more ticks; returns the last."""
        after = len(self.lines)
        for _ in range(count):
            line = self.wait_line(lambda text: text.startswith("tick "), timeout, after)
            after = self.lines.index(line, after) + 1
        return parse_tick(line)
