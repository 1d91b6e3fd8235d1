# SPDX-License-Identifier: Apache-2.0
"""An idle guest of 2 GiB, 1.4 GiB of it filled, over a link that is not shaped: the engine's own speed."""
import statistics

from gwtest import places, qemu, stock
from gwtest.measured import Measured, Run

BENCH = "unshaped"
MEMORY = 2048 * qemu.MIB
LOAD = {"mem": 1400, "rate": 0, "sweep": 0, "tick": 20}


def row(title, left, right, form):
    ratio = statistics.median(r / l for l, r in zip(left, right))
    spread = f"{min(right):{form}}..{max(right):{form}}"
    print(f"{title:24}{statistics.median(left):>12{form}}{statistics.median(right):>12{form}}{spread:>18}{ratio:>16.2f}",
          flush=True)


def run(options):
    print(f"\nunshaped: idle guest, {LOAD['mem']} MiB of {MEMORY // qemu.MIB} MiB filled, veth not shaped, "
          f"{options.pairs} pairs, stock QEMU {'.'.join(map(str, stock.version()))} multifd with 2 channels, "
          f"accelerator {places.accelerator()}")
    journal = options.journal
    first = journal.next_pair(BENCH)
    for pair in range(first, first + options.pairs):
        with Measured(MEMORY, LOAD, exact=True) as guests:
            journal.add(BENCH, "unshaped", "stock", pair, guests.stock(channels=2), ours=False)
        with Measured(MEMORY, LOAD, exact=True) as guests:
            journal.add(BENCH, "unshaped", "godwit", pair, guests.godwit())
    report(journal)


def report(journal):
    """Two columns, and a ratio of pairs for each row."""
    theirs, ours = ([Run(**{key: r[key] for key in Run._fields}) for r in journal.select(BENCH, "unshaped", mode)]
                    for mode in ("stock", "godwit"))
    if not ours:
        return
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
