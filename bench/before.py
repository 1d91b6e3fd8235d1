# SPDX-License-Identifier: Apache-2.0
"""This build beside an earlier one, in pairs: what a change of the engine cost. GODWIT_BEFORE is the other program; both
ends of a migration are always of one build. The pairs take turns in who goes first, for the second of two finds the
machine's memory warmer."""
import contextlib
import os
import sys

from gwtest.measured import Measured

from links import LINKS, chosen
from results import median, ratio, table, verdict
from shapes import guest
from unshaped import LOAD, MEMORY

BENCH = "before"
CASES = ("unshaped", "1g", "hard")
MODES = ("before", "after")
WORSE = 1.03  # of the time and of the CPU that were needed before
BUSY = {"mem": 1400, "rate": 20_000_000 // 1024}


@contextlib.contextmanager
def program(mode):
    """Within it a migration is made by that build."""
    before = os.environ.get("GODWIT")
    if mode == "before":
        os.environ["GODWIT"] = os.environ["GODWIT_BEFORE"]
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("GODWIT", None)
        else:
            os.environ["GODWIT"] = before


def one(options, case, mode):
    with program(mode):
        if case == "hard":
            with guest(options, "pages", "1g") as pair:
                return {**pair.run({"completion-timeout": options.limit}, options.limit + 20)._asdict(), "events": []}
        memory = int(MEMORY * options.scale) >> 20 << 20
        load = {**(LOAD if case == "unshaped" else BUSY), "mem": int(LOAD["mem"] * options.scale)}
        with Measured(memory, load, LINKS[case], exact=True) as guests:
            return guests.godwit(timeout=options.limit)


def run(options):
    if not os.path.exists(os.environ.get("GODWIT_BEFORE", "")):
        sys.exit("before: GODWIT_BEFORE names the program to compare with")
    journal = options.journal
    print(f"\nbefore: {os.environ['GODWIT_BEFORE']} and this build, {options.pairs} pairs", flush=True)
    first = journal.next_pair(BENCH)
    cases = chosen(options.links, CASES)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in MODES if pair % 2 else reversed(MODES):
                journal.add(BENCH, case, mode, pair, journal.calmest(lambda *what: one(options, *what[:2]), case, mode))
    for case in cases:
        table(journal, BENCH, case, MODES, "after")
        before, after = (journal.select(BENCH, case, mode) for mode in MODES)
        verdict(f"{case}: total time as part of before's", ratio(before, after), WORSE)
        verdict(f"{case}: CPU as part of before's", ratio(before, after, "cpu"), WORSE)
        print(f"  {case}: downtime {median(before, 'downtime'):.1f} ms before, {median(after, 'downtime'):.1f} ms after")
