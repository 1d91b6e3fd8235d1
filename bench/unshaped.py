# SPDX-License-Identifier: Apache-2.0
"""An idle guest of 2 GiB, 1.4 GiB of it filled, over a link that is not shaped: the engine's own speed."""
import statistics

from gwtest import engine, places, qemu, stock
from gwtest.measured import Measured

MEMORY = 2048 * qemu.MIB
LOAD = {"mem": 1400, "rate": 0, "sweep": 0, "tick": 20}


def stock_run(channels):
    with Measured(MEMORY, LOAD, exact=True) as pair:
        def migrate():
            report = stock.migrate(pair.source, pair.destination, pair.hosts.b.address, channels=channels)
            return report["downtime"], 0.0, report
        return pair.measure(migrate)


def godwit_run():
    with Measured(MEMORY, LOAD, exact=True) as pair:
        def migrate():
            with engine.Migration(pair.source, pair.destination, pair.hosts) as migration:
                report = migration.complete()
                return report["downtime"], migration.cpu_seconds(), report
        return pair.measure(migrate)


def row(title, left, right, form):
    ratio = statistics.median(r / l for l, r in zip(left, right))
    spread = f"{min(right):{form}}..{max(right):{form}}"
    print(f"{title:24}{statistics.median(left):>12{form}}{statistics.median(right):>12{form}}{spread:>18}{ratio:>16.2f}",
          flush=True)


def run(options):
    print(f"\nunshaped: idle guest, {LOAD['mem']} MiB of {MEMORY // qemu.MIB} MiB filled, veth not shaped, "
          f"{options.pairs} pairs, stock QEMU {'.'.join(map(str, stock.version()))} multifd with 2 channels, "
          f"accelerator {places.accelerator()}")
    theirs, ours = [], []
    for _ in range(options.pairs):
        theirs.append(stock_run(2))
        ours.append(godwit_run())
    for one in ours:
        if one.problems:
            raise RuntimeError(f"a run went wrong: {one.problems}")
    broken = sum(bool(one.problems) for one in theirs)
    if broken:  # see stock.loses_writes(): the size that avoids it would cost stock QEMU time
        print(f"({broken} of stock QEMU's {len(theirs)} guests were broken after their migration)")
    print(f"{'':24}{'stock':>12}{'godwit':>12}{'(min..max)':>18}{'godwit/stock':>16}")
    row("total time (s)", [r.total for r in theirs], [r.total for r in ours], ".2f")
    row("engine's total-time (s)", [r.report["total-time"] / 1000 for r in theirs],
        [r.report["total-time"] / 1000 for r in ours], ".2f")
    row("CPU (s)", [r.cpu for r in theirs], [r.cpu for r in ours], ".2f")
    row("on the wire (MB)", [r.wire / 1e6 for r in theirs], [r.wire / 1e6 for r in ours], ".0f")
    row("downtime (ms)", [r.downtime for r in theirs], [r.downtime for r in ours], ".0f")
    row("silence (ms)", [r.silence for r in theirs], [r.silence for r in ours], ".0f")
