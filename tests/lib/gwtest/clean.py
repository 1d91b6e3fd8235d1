# SPDX-License-Identifier: Apache-2.0
"""That a migration, however it ended, leaves nothing behind."""
import collections
import os


def userfaultfds(pid):
    """How many userfaultfd descriptors a process has."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[userfaultfd]"
        except FileNotFoundError:
            pass  # closed meanwhile
    return count


def traced_threads(pid):
    """[(thread id, tracer's id)] of threads that somebody traces."""
    found = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii", errors="replace") as file:
                tracer = next(int(line.split()[1]) for line in file if line.startswith("TracerPid:"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if tracer:
            found.append((int(tid), tracer))
    return found


def registered_ranges(pid):
    """Mappings that have a userfaultfd registered on them (flags um and uw of smaps)."""
    found, current = [], None
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                current = words[0]
            elif words[0] == "VmFlags:" and {"um", "uw", "ui"} & set(words[1:]):
                found.append(current)
    return found


def _blocks(qmp):
    """Dirty bitmaps, exports and I/O limits of a guest; empty for a VMM that knows none of it (the stunt guest)."""
    def ask(command):
        try:
            return qmp.execute(command)
        except Exception as error:  # a command that this VMM does not have
            if getattr(error, "class_", None) != "CommandNotFound":
                raise
            return []

    bitmaps, limits = [], []
    for node in ask("query-named-block-nodes"):
        bitmaps += [(node["node-name"], b.get("name")) for b in node.get("dirty-bitmaps", [])]
    for device in ask("query-block"):
        inserted = device.get("inserted", {})
        limits.append((device.get("qdev"), inserted.get("bps_wr"), inserted.get("iops_wr")))
    return sorted(bitmaps, key=str), sorted(limits, key=str), sorted(map(str, ask("query-block-exports")))


def _files(directories):
    found = set()
    for directory in directories:
        for root, _, names in os.walk(directory):
            found |= {os.path.join(root, name) for name in names}
    return found


class Snapshot:
    """What a guest looks like before a migration; check() says what is different afterwards.

    guest needs `pid` and `qmp`. `directories`: where no new file may be left.
    """

    def __init__(self, guest, directories=()):
        self.guest = guest
        self.directories = list(directories)
        self.before = self._take()

    def _take(self):
        qmp, pid = self.guest.qmp, self.guest.pid
        capabilities = {c["capability"]: c["state"] for c in qmp.execute("query-migrate-capabilities")}
        bitmaps, limits, exports = _blocks(qmp)
        return collections.OrderedDict([
            ("userfaultfds", userfaultfds(pid)),
            ("traced threads", traced_threads(pid)),
            ("userfaultfd registrations", registered_ranges(pid)),
            ("capabilities", capabilities),
            ("parameters", qmp.execute("query-migrate-parameters")),
            ("dirty bitmaps", bitmaps),
            ("I/O limits", limits),
            ("exports", exports),
            ("files", _files(self.directories)),
        ])

    def differences(self):
        """["what: before -> now", ...]; empty when nothing is left."""
        now = self._take()
        found = []
        for what, before in self.before.items():
            if what == "files":
                found += [f"file left: {path}" for path in sorted(now[what] - before)]
            elif isinstance(before, dict):
                for key in sorted(set(before) | set(now[what])):
                    if before.get(key) != now[what].get(key):
                        found.append(f"{what}: {key}: {before.get(key)!r} -> {now[what].get(key)!r}")
            elif before != now[what]:
                found.append(f"{what}: {before!r} -> {now[what]!r}")
        return found

    def check(self):
        """Fails when anything is left."""
        found = self.differences()
        assert not found, "left behind: " + "; ".join(found)
