# SPDX-License-Identifier: Apache-2.0
"""A real guest that writes as fast as an emulated CPU can: godwit beside stock QEMU with auto-converge.

Work lost is what the guest would have written besides if nobody had migrated it, in seconds of its speed before: its
ticks say how many pages it has written. The pause at the switchover, and what the migration takes of the CPUs, count too.
"""
from gwtest import places, qemu, stock
from gwtest.measured import Measured

from links import LINKS, chosen
from results import ratio, table, verdict

BENCH = "autoconverge"
MEMORY = 2048 * qemu.MIB
HOT = 512
CASES = ("1g", "500m", "200m")
MODES = {"multifd": {"channels": 2}, "single": {"channels": 0}}
EXACT = "-exact"
if stock.loses_writes():
    MODES.update({mode + EXACT: MODES[mode] for mode in tuple(MODES)})
BASELINE = 5
FASTEST = 4 << 20  # KiB/s: more than an emulated CPU can write
TARGETS = {"total": 0.7, "lost": 0.5}


def written(pair, began, ended):
    """(seconds, pages) between the ticks that are nearest to two times of the host."""
    ticks = pair.source.serial.ticks() + pair.destination.serial.ticks()
    first = min(ticks, key=lambda t: abs(t.time - began))
    last = min(ticks, key=lambda t: abs(t.time - ended))
    return last.time - first.time, last.dirtied - first.dirtied


def one(options, link, migrate, exact=False):
    load = {"mem": int(HOT * options.scale), "rate": FASTEST, "sweep": 0}
    with Measured(int(MEMORY * options.scale) // qemu.MIB * qemu.MIB, load, LINKS[link], exact=exact,
                  baseline=BASELINE) as pair:
        run_ = migrate(pair)
        ended = run_.began + run_.total
        seconds, pages = written(pair, run_.began - BASELINE, run_.began)
        speed = pages / seconds
        seconds, pages = written(pair, run_.began, ended)
        return {**run_._asdict(), "speed": speed * 4096, "lost": seconds - pages / speed}


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links, CASES), chosen(options.modes, MODES)
    print(f"\nautoconverge: guest of {MEMORY * options.scale / qemu.MIB:.0f} MiB, {HOT * options.scale:.0f} MiB written "
          f"all the time, accelerator {places.accelerator()}, stock QEMU {'.'.join(map(str, stock.version()))}; "
          f"{options.pairs} pairs, limit {options.limit} s", flush=True)
    first = journal.next_pair(BENCH)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in modes:
                journal.add(BENCH, case, mode, pair, one(
                    options, case, lambda m, mode=mode: m.stock(timeout=options.limit, auto_converge=True, **MODES[mode]),
                    exact=mode.endswith(EXACT)), ours=False)
            journal.add(BENCH, case, "godwit", pair, one(options, case, lambda m: m.godwit(timeout=options.limit)))
    for case in cases:
        table(journal, BENCH, case, [*MODES, "godwit"], "godwit")
        ours = journal.select(BENCH, case, "godwit")
        for mode in modes:
            theirs = journal.select(BENCH, case, mode)
            for key, target in TARGETS.items():
                what = "total time" if key == "total" else "work lost"
                verdict(f"{what} as part of {mode}'s with auto-converge", ratio(theirs, ours, key), target)
