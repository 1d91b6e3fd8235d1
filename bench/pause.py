# SPDX-License-Identifier: Apache-2.0
"""How long a real guest with RAM of QEMU's own stands still, seen from outside, beside downtime-limit: 1 GiB over 1 Gbit/s,
60 MB/s of it written, and all the time its video RAM besides."""
from gwtest import places, qemu, stock
from gwtest.measured import Measured

from links import LINKS
from results import median

BENCH = "pause"
CASES = ("video", "none")
MODES = ("private", "file")
LIMIT = 100  # ms
MEMORY = 1024
TICK = 10  # ms between two signs of life of the guest
LOAD = {"mem": 500, "rate": 60_000_000 // 1024, "sweep": 0, "hot": 10, "tick": TICK}
VIDEO = 16 << 10  # KiB/s: all of it once a second
SHARE = 0.95  # of the runs


def one(options, case, mode):
    load = {**LOAD, "mem": int(LOAD["mem"] * options.scale), **({"video": VIDEO} if case == "video" else {})}
    memory = int(MEMORY * options.scale) * qemu.MIB
    with Measured(memory, load, LINKS["1g"], private=mode == "private") as guests:
        return guests.godwit({"downtime-limit": LIMIT}, timeout=options.limit)


def run(options):
    journal = options.journal
    cases = [c for c in CASES if c in (options.links or CASES[:1])]
    modes = [m for m in MODES if m in (options.modes or MODES[:1])]
    print(f"\npause: downtime-limit {LIMIT} ms, {options.pairs} runs, QEMU {'.'.join(map(str, stock.version()))}, "
          f"accelerator {places.accelerator()}", flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for case in cases:
        for mode in modes:
            runs = journal.select(BENCH, case, mode)
            if not runs:
                continue
            # between two ticks a guest that does not stand still is silent for one period
            within = sum(r["handover"] - TICK <= LIMIT for r in runs)
            told = sum(r["downtime"] <= LIMIT for r in runs)
            print(f"  {case}, {mode}: {within} of {len(runs)} within {LIMIT} ms seen from outside (wanted "
                  f"{SHARE:.0%}), {told} by the engine's own account; medians {median(runs, 'handover') - TICK:.0f} and "
                  f"{median(runs, 'downtime'):.0f} ms, most {max(r['handover'] for r in runs) - TICK:.0f} and "
                  f"{max(r['downtime'] for r in runs):.0f} ms", flush=True)
