# SPDX-License-Identifier: Apache-2.0
"""Two hosts, a guest on each side, and what one migration between them costs: for the demo and the benchmarks."""
import collections
import contextlib
import mmap
import shutil
import tempfile
import time

from . import cpu, engine, netns, qemu, silence, stock

BASELINE_SECONDS = 2
AFTER_TICKS = 100
MADV_POPULATE_WRITE = 23  # not in Python's mmap
WARM_MORE = 512 << 20  # besides the guest's memory: socket buffers, page tables, the engines

# seconds, ms, bytes, CPU seconds, ms, ms, list of texts, the engine's own report, when it began (time.monotonic());
# whether it ended in its time (when not, total is how long it was let go on, and there was no downtime)
Run = collections.namedtuple("Run", "total downtime wire cpu handover silence problems report began ended",
                             defaults=(0.0, True))


def warm(memory):
    """Touches as much free memory as the migration of a guest of `memory` bytes fills, and gives it back.

    Where the machine is a guest itself, its host may take memory that is free for some seconds, and giving it again takes
    the host 2 s and more for each GiB: what a migration fills would be measured, and who comes later finds it there.
    In pieces of 2 MiB, for stock QEMU's RAM comes in such: memory that was warmed in pieces of 4 KiB would be cold for it.
    """
    with mmap.mmap(-1, memory + WARM_MORE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        area.madvise(MADV_POPULATE_WRITE)


class Measured:
    """A booted guest and its waiting destination. Use as a context manager.

    link     bits/s; None: as fast as it goes
    memory   bytes
    load     settings of the load
    exact    the memory is just that, though an older QEMU may then lose writes of a busy guest (stock.loses_writes)
    private  the memory is QEMU's own (-m alone) and no shared file
    """

    def __init__(self, memory, load, link=None, cpus=1, exact=False, baseline=BASELINE_SECONDS, private=False):
        self.baseline = baseline
        self.memory = memory
        self.stack = contextlib.ExitStack()
        directory = tempfile.mkdtemp(prefix="godwit-measured-", dir="/dev/shm")
        self.stack.callback(shutil.rmtree, directory)
        try:
            self.hosts = self.stack.enter_context(netns.Hosts(link) if link else netns.Hosts())
            size = memory if exact else stock.memory(memory)
            alone = ["-machine", "pc", "-m", f"{size // 1024}K"] if private else None
            self.source = qemu.Guest(directory, "source", memory=size, cpus=cpus, netns=self.hosts.a.netns, load=load,
                                     memory_args=alone)
            self.stack.callback(self.source.remove)
            self.destination = self.source.destination(name="destination", netns=self.hosts.b.netns)
            self.stack.callback(self.destination.remove)
            self.source.wait_ready()
            self.source.serial.wait_ticks(20)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def guests_cpu(self):
        return cpu.seconds(self.source.pid) + cpu.seconds(self.destination.pid)

    def wire(self):
        """Bytes in both directions."""
        return sum(self.hosts.a.counters())

    def measure(self, migrate):
        """Runs migrate(), which returns (downtime in ms, CPU seconds of helpers, report), between two looks at
        everything."""
        before = self.guests_cpu()
        time.sleep(self.baseline)
        idle = (self.guests_cpu() - before) / self.baseline
        warm(self.memory)
        busy, wire, began = self.guests_cpu(), self.wire(), time.monotonic()
        ended = True
        try:
            downtime, helpers, report = migrate()
        except stock.DidNotEnd as late:
            ended, downtime, helpers, report = False, 0.0, 0.0, late.answer
        total = time.monotonic() - began
        busy, wire = self.guests_cpu() - busy, self.wire() - wire
        spent = max(0.0, busy - idle * total) + helpers
        if not ended:
            return Run(total, downtime, wire, spent, 0.0, 0.0, [], report, began, False)
        heard = self.listen(began)
        return Run(total, downtime, wire, spent, (heard.handover or 0) * 1000, heard.longest * 1000,
                   self.problems(heard), report, began)

    def stock(self, **options):
        """The Run of stock QEMU's own migration; options of stock.migrate()."""
        def migrate():
            report = stock.migrate(self.source, self.destination, self.hosts.b.address, **options)
            return report["downtime"], 0.0, report
        return self.measure(migrate)

    def godwit(self, settings=None, timeout=120, receive_settings=None):
        """The Run of godwit with these --set at the source, and at the destination. Its report has "engines" besides:
        CPU seconds of either side's engine."""
        def migrate():
            with engine.Migration(self.source, self.destination, self.hosts, settings=settings,
                                  receive_settings=receive_settings) as migration:
                report = migration.complete(timeout)
                report["engines"] = {"send": migration.send.cpu_seconds(), "receive": migration.receive.cpu_seconds()}
                return report["downtime"], migration.cpu_seconds(), report
        return self.measure(migrate)

    def listen(self, since):
        """Hears the guest go on at the destination, if it does, and looks at its pulse since then."""
        with contextlib.suppress(TimeoutError):  # problems() will say so
            self.destination.serial.wait_ticks(AFTER_TICKS)
        return silence.measure(self.source.serial, self.destination.serial, since=since)

    def problems(self, heard):
        """What is not as it must be after a migration."""
        found = list(heard.errors)
        if not heard.across or len(self.destination.serial.ticks()) < AFTER_TICKS:
            found.append("the guest did not go on at the destination")
        if heard.jumps:
            found.append(f"the guest did not go on where it was: {heard.jumps}")
        if heard.errors_counted:
            found.append(f"the guest counts {heard.errors_counted} errors")
        if self.destination.qmp.status() != "running":
            found.append(f"the destination is {self.destination.qmp.status()}")
        if self.source.qmp.status() == "running":
            found.append("the source still runs")
        return found
