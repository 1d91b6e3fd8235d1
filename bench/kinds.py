# SPDX-License-Identifier: Apache-2.0
"""Memory whose pages are of every kind, each page by itself at random: this build beside an earlier one, in pairs.
GODWIT_BEFORE is the other program; without it this build runs alone. The guest is a stunt, so that what is measured is
the engine."""
import os

from before import program
from links import LINKS, chosen
from results import median, ratio, table, verdict
from stunts import Pair, mib

BENCH = "kinds"
MEMORY = 2048
FILL = 70  # percent: 1.4 GiB
MIX = "40,20,20,20"  # words, pointers, random, zeros
CASES = ("1g", "100m", "5g", "unshaped")
MODES = ("before", "after")
LOADS = {"5g": "uniform,rate=20M"}


def one(options, case, mode):
    with program(mode), Pair(mib(MEMORY, options.scale), LOADS.get(case), LINKS[case], fill=FILL, mix=MIX) as pair:
        run = pair.run({}, options.limit)
        codecs = {name: (c["in"] >> 20, c["out"] >> 20) for name, c in run.report["codecs"].items() if c["in"]}
        engines = run.report["cpu-time"] / 1000
        print(f"    {mode} {case}: MiB in and out {codecs}, the source {engines:.2f} CPU s", flush=True)
        return {**run._asdict(), "events": [], "codecs": codecs}


def run(options):
    journal = options.journal
    modes = [m for m in chosen(options.modes, MODES) if m != "before" or os.path.exists(os.environ.get("GODWIT_BEFORE", ""))]
    print(f"\nkinds: {mib(MEMORY, options.scale) >> 20} MiB, {FILL} % of it filled with {MIX} % of words, pointers, random "
          f"and zero pages, {options.pairs} pairs", flush=True)
    cases = chosen(options.links, CASES)
    first = journal.next_pair(BENCH)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in modes if pair % 2 else list(reversed(modes)):
                journal.add(BENCH, case, mode, pair, journal.calmest(lambda *what: one(options, *what[:2]), case, mode))
    for case in cases:
        table(journal, BENCH, case, MODES, "after")
        before, after = (journal.select(BENCH, case, mode) for mode in MODES)
        if before and after:
            verdict(f"{case}: wire as part of before's", ratio(before, after, "wire"), 1.0)
            print(f"  {case}: downtime {median(before, 'downtime'):.1f} ms before, {median(after, 'downtime'):.1f} after")
