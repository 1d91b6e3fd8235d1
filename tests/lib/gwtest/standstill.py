# SPDX-License-Identifier: Apache-2.0
"""How long a guest stood still, seen from outside: by what its VMM says, not by what godwit says."""
import threading
import time


class Standstill:
    """Looks at a guest from its making on. Use as a context manager, or call stop()."""

    def __init__(self, guest):
        """guest: a real one, asked over a monitor of its own every few ms, or a stunt, which writes down each stop."""
        self._guest = guest
        self._stunt = hasattr(guest, "stats_lines")
        self._from = time.time()
        self._looks = []  # (seconds, whether it runs)
        self._end = threading.Event()
        self._thread = None
        if not self._stunt:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def _look(self):
        while not self._end.is_set():
            running = self._guest.qmp.execute("query-status")["running"]
            self._looks.append((time.time(), running))
            time.sleep(0.005)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        self._end.set()
        if self._thread is not None:
            self._thread.join(60)
            self._thread = None

    def looks(self):
        if self._stunt:
            return [(line["wall"] / 1e9, line["running"]) for line in self._guest.stats_lines()
                    if line["wall"] / 1e9 >= self._from]
        return list(self._looks)

    def longest(self):
        """Seconds of the longest time without running; one that has not ended yet counts until now."""
        longest, since = 0.0, None
        for at, running in self.looks():
            if running and since is not None:
                longest, since = max(longest, at - since), None
            elif not running and since is None:
                since = at
        return longest if since is None else max(longest, time.time() - since)
