# SPDX-License-Identifier: Apache-2.0
"""Migrations of the stunt guest: it starts in a moment and writes at native speed, so that what is measured is the
engine."""
import collections
import contextlib
import os
import shutil
import tempfile

from gwtest import engine, hugepages, netns, stunt
from gwtest.measured import warm
from gwtest.qemu import MIB, Backend

MIX = "40,37,8,15"  # what the real guest's memory is made of by default (guest/settings.c)
QUIET = ("--no-hash", "--no-check")  # hashing all RAM at the switchover would be measured too

# seconds, ms, bytes on the wire with all headers, CPU seconds of both engines, texts, the source's report and events;
# whether it ended in its time
Run = collections.namedtuple("Run", "total downtime wire cpu problems report events ended", defaults=(True,))


class Pair:
    """A running guest and its waiting destination on two hosts. Use as a context manager.

    hosts   netns.Hosts to share with other pairs; without it the pair has its own, with a link of `link` bits/s
    huge    RAM in huge pages of 2 MiB
    """

    def __init__(self, memory, load, link=None, hosts=None, fill=70, huge=False, name="source", cpus=1, mix=MIX):
        self.stack = contextlib.ExitStack()
        self.memory, self.huge = memory, huge
        try:
            directory = tempfile.mkdtemp(prefix="godwit-stunt-", dir="/dev/shm")
            self.stack.callback(shutil.rmtree, directory)
            self.hosts = hosts or self.stack.enter_context(netns.Hosts(link))
            ram = directory
            if huge:
                ram = self.stack.enter_context(hugepages.HugePages(2 * memory)).directory
            self.source = stunt.Stunt(directory, name, backends=[Backend("ram0", memory, os.path.join(ram, name))],
                                      fill=fill, mix=mix, load=load, cpus=cpus, netns=self.hosts.a.netns, options=QUIET)
            self.stack.callback(self.source.remove)
            self.destination = self.source.destination(name=f"{name}-dst", netns=self.hosts.b.netns, options=QUIET)
            self.stack.callback(self.destination.remove)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def start(self, settings=None, port=None):
        """An engine.Migration."""
        return engine.Migration(self.source, self.destination, self.hosts, settings=settings, port=port)

    def run(self, settings=None, timeout=400, during=None, stop=True):
        """One whole migration. `during` is a context manager that is entered when it begins. With `stop` the guest is
        stopped and checked in the end; a migration that fails then is an error. Without, it has not ended."""
        if not self.huge:  # the pool has them already
            warm(self.memory)
        wire = sum(self.hosts.a.counters())
        with self.start(settings) as migration:
            with during or contextlib.nullcontext():
                try:
                    report = migration.complete(timeout)
                except (TimeoutError, *(() if stop else (AssertionError,))):
                    return Run(float(timeout), 0.0, sum(self.hosts.a.counters()) - wire, migration.cpu_seconds(), [],
                               None, migration.send.events(), False)
            return Run(report["total-time"] / 1000, report["downtime"], sum(self.hosts.a.counters()) - wire,
                       migration.cpu_seconds(), self.problems() if stop else [], report, migration.send.events())

    def problems(self):
        """What is not as it must be after a migration; the guest stands still then."""
        if self.destination.exit_status() is not None:
            return [f"the guest ended: {self.destination.log()}"]
        if self.destination.qmp.status() != "running":
            return [f"the destination is {self.destination.qmp.status()}"]
        self.destination.qmp.execute("stop")
        self.destination.check()
        return []


def passes(run):
    """[(pages of 4 KiB, bytes)] of the passes over RAM, in order."""
    found, before = [], 0
    for event in run.events:
        if event["event"] == "pass":
            found.append((event["pages"], event["transferred"] - before))
            before = event["transferred"]
    return found


def mib(size, scale, unit=2):
    """`size` MiB by --scale, as bytes, in whole units of MiB."""
    return max(unit, int(size * scale) // unit * unit) * MIB
