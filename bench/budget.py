# SPDX-License-Identifier: Apache-2.0
"""What the source's engine takes of the CPUs beside a program that keeps one of them busy, with cpu-budget and without.

Its share is the CPU time of `send` by the time that the migration took, in percent of one CPU. The final pass is allowed
more than its budget: there each wait is the guest's pause.
"""
from links import LINKS, chosen
from auto import Script
from results import median, table, verdict
from stunts import Pair, mib

BENCH = "budget"
MEMORY = 1024
LOADS = {"calm": "uniform,rate=20M", "writes": "uniform,rate=400M,hot={hot}"}
HOT = 128
CASES = tuple(LOADS)
MODES = {"auto": {}, "100": {"cpu-budget": 100}, "25": {"cpu-budget": 25}}
BUSY = ((0, "busy"),)


def one(options, case, mode):
    load = LOADS[case].format(hot=mib(HOT, options.scale))
    with Pair(mib(MEMORY, options.scale), load, LINKS["1g"]) as pair:
        run_ = pair.run(MODES[mode], options.limit, Script(pair.hosts, BUSY))
        share = run_.report["cpu-time"] / run_.report["total-time"] * 100 if run_.report else 0.0
        return {**run_._asdict(), "events": [], "share": share}


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links, CASES), chosen(options.modes, MODES)
    print(f"\nbudget: stunt guest of {MEMORY * options.scale:.0f} MiB, 1 Gbit/s, another program on one CPU; "
          f"{options.pairs} pairs", flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for case in cases:
        table(journal, BENCH, case, MODES, "auto")
        for mode in modes:
            runs = journal.select(BENCH, case, mode)
            print(f"  {case} {mode}: {median(runs, 'share'):.0f} % of a CPU "
                  f"({min(r['share'] for r in runs):.0f}..{max(r['share'] for r in runs):.0f})")
            if mode != "auto":
                verdict(f"share of a CPU with cpu-budget={mode}, percent", median(runs, "share"), float(mode))
