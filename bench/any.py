# SPDX-License-Identifier: Apache-2.0
"""Guests with RAM of QEMU's own (-m alone) and with RAM in a shared file, beside stock QEMU in its best mode, of which the
RAM is its own. Content: 1.4 GiB of 2, page by page at random 40 % words, 20 % pointers, 20 % noise, 20 % zeros."""

from gwtest import places, qemu, stock
from gwtest.measured import Measured

from links import LINKS, chosen
from results import best, median, ratio, table, verdict

BENCH = "any"
MEMORY = 2048
FILLED = 1400
CONTENT = "40,20,20,20"
QUIET, BUSY = 0, 20_000_000 // 1024  # KiB/s
CASES = {"unshaped": QUIET, "5g": BUSY, "1g": BUSY, "100m": QUIET}
STOCK = {"plain": {"channels": 0}, "multifd": {"channels": 2}, "zstd": {"channels": 2, "compression": "zstd"}}
OURS = {"private": True, "file": False}
MODES = (*STOCK, *OURS)
# of the time and of the CPU of stock QEMU's best
TARGETS = {("unshaped", "private"): (0.7, 0.7), ("5g", "private"): (0.85, None), ("1g", "private"): (0.92, 0.7),
           ("100m", "private"): (0.9, None), ("unshaped", "file"): (0.85, 0.85)}


def load(options, case):
    filled = int(FILLED * options.scale)
    return {"mem": filled, "rate": CASES[case], "mix": CONTENT, "tick": 20, **({"sweep": 0} if case == "unshaped" else {})}


def one(options, case, mode):
    memory = int(MEMORY * options.scale) * qemu.MIB
    with Measured(memory, load(options, case), LINKS[case], private=OURS.get(mode, True)) as guests:
        if mode in STOCK:
            return guests.stock(timeout=options.limit, **STOCK[mode])
        return guests.godwit(timeout=options.limit)


def judge(journal, case, rival):
    theirs = journal.select(BENCH, case, rival)
    for mode in OURS:
        ours = journal.select(BENCH, case, mode)
        if not ours or not theirs:
            continue
        time, spent = TARGETS.get((case, mode), (None, None))
        pairs = f"{case}, {mode}: time and CPU as parts of stock QEMU's {rival}: {ratio(theirs, ours):.2f} and " \
                f"{ratio(theirs, ours, 'cpu'):.2f}; downtime {median(ours, 'downtime'):.0f} ms beside " \
                f"{median(theirs, 'downtime'):.0f}"
        print(f"  {pairs}")
        if time:
            verdict("time", ratio(theirs, ours), time)
        if spent:
            verdict("CPU", ratio(theirs, ours, "cpu"), spent)


def run(options):
    journal = options.journal
    cases = chosen(options.links, CASES)
    modes = chosen(options.modes, MODES)
    print(f"\nany: RAM of QEMU's own and in a file, {options.pairs} rounds, stock QEMU "
          f"{'.'.join(map(str, stock.version()))}, accelerator {places.accelerator()}", flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for case in cases:
        rival = best(journal, BENCH, case, STOCK)
        table(journal, BENCH, case, modes, rival)
        if rival:
            judge(journal, case, rival)
