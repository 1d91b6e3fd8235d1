# SPDX-License-Identifier: Apache-2.0
"""The stunt guest of tests/stunt: looks like QEMU from outside, starts at once, writes at native speed."""
import json
import os
import time

from . import places, process
from .qemu import MIB, Backend
from .qmp import BriefQmp
from .vmm import Vmm


class Stunt(Vmm):
    """One stunt process. It has one QMP socket, `qmp_path`, that takes one client at a time: `qmp` connects for each
    command and waits while godwit has it. Use as a context manager, or call remove()."""

    def __init__(self, directory, name="stunt", memory=256 * MIB, backends=None, seed=1, fill=70, mix=None,
                 load="uniform,rate=20M", cpus=1, incoming=False, paused=None, netns=None, options=(), user=None):
        """
        directory  for the socket, the log, the statistics, and the RAM file when `backends` is not given
        backends   list of qemu.Backend; a path on a hugetlbfs mount gives huge pages; None: memory of its own
        load       SHAPE[,key=value...] of --load; None: idle
        incoming   a destination: --incoming defer -S
        paused     -S; by default what `incoming` is
        options    more options, such as ("--refuse", "stop:1", "--drain-ms", 50)
        user       number of the user and group that it runs as; they must be able to write the directory
        """
        self.name = name
        self.directory = str(directory)
        self.backends = backends or [Backend("ram0", memory, self._file("ram"))]
        self.netns = netns
        self.qmp_path = self._file("qmp")
        self.stats_path = self._file("stats")
        self.log_path = self._file("log")
        self._options = {"seed": seed, "cpus": cpus, "load": load, "mix": mix}
        self.args = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
        self.args += [places.stunt(), "--qmp", self.qmp_path, "--stats", self.stats_path, "--seed", seed,
                     "--cpus", cpus]
        for b in self.backends:
            self.args += ["--ram", f"{b.id},size={b.size},path={b.path or 'anonymous'}"]
        if incoming:
            self.args += ["--incoming", "defer"]
        else:
            self.args += ["--fill", fill]
        if mix:
            self.args += ["--mix", mix]
        if load:
            self.args += ["--load", load]
        if incoming if paused is None else paused:
            self.args += ["-S"]
        self.args += list(options)
        with open(self.log_path, "ab") as log:
            self._child = process.spawn(self.args, netns=netns, stdin=log, stdout=log, stderr=log)
        self._qmp = BriefQmp(self.qmp_path)
        self._wait_listening()

    def _wait_listening(self):
        """It listens once everything is as it should be."""
        while not os.path.exists(self.qmp_path):
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name}: the stunt ended with {self._child.returncode}: {self.log()}")
            time.sleep(0.01)

    def _file(self, kind):
        return os.path.join(self.directory, f"{self.name}.{kind}")

    def destination(self, directory=None, name=None, netns=None, backends=None, **changes):
        """A second stunt like this one that waits for a migration, with RAM files of its own."""
        name = name or self.name + "-dst"
        if backends is None:
            backends = [Backend(b.id, b.size, b.path and os.path.join(os.path.dirname(b.path), f"{name}.{b.id}"))
                        for b in self.backends]
        return type(self)(directory or self.directory, name=name, backends=backends, netns=netns, incoming=True,
                          **{**self._options, **changes})

    def __exit__(self, *exc):
        self.remove()

    def exit_status(self):
        """3 when a page did not hold what was last written to it; None while it lives."""
        return self._child.poll()

    def stats(self):
        """What stunt-stats says now."""
        return self.qmp.execute("stunt-stats")

    def check(self):
        """Checks all stamps; the guest must be stopped."""
        return self.qmp.execute("stunt-check")

    def stats_lines(self):
        """The objects that --stats wrote: one every 50 ms, and one at every start and stop."""
        with open(self.stats_path, encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().split("\n")[:-1]]

    def stop(self):
        process.kill(self._child)
