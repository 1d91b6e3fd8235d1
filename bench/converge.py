# SPDX-License-Identifier: Apache-2.0
"""Guests that write faster than their link carries, or nearly so: what each throttle-policy costs them. Nobody is in a
hurry: completion-timeout is not set, for only one of the policies heeds it. What has not ended after --limit never does."""
import statistics
import time

from links import chosen
from results import median, table, verdict
from shapes import MEMORY, PAGE, SIX, THREE, at, full_speed, guest, work_lost

BENCH = "converge"
# shape-link: "pages-1g" is the hard one
CASES = (*(f"{shape}-{link}" for shape in SIX for link in THREE), "pages-1g")
HARD = ("uniform-1g", "pages-1g")
POLICIES = ("none", "stepped", "staged", "rate")
MODES = POLICIES
PAUSE = 0.3  # so that a line of statistics says what it did last


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links or HARD, CASES), chosen(options.modes, POLICIES)
    print(f"\nconverge: stunt guest of {MEMORY * options.scale:.0f} MiB; {options.pairs} pairs, limit {options.limit} s",
          flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for case in cases:
        table(journal, BENCH, case, POLICIES, "rate")
        judge(journal, case)


def one(options, case, mode):
    shape, _, link = case.rpartition("-")
    with guest(options, shape, link) as pair:
        speed = full_speed(pair.source)
        began = at(pair.source)
        run_ = pair.run({"throttle-policy": mode}, options.limit, stop=False)
        time.sleep(PAUSE)
        there = pair.destination if run_.report else pair.source
        ended = at(there)
        lost = work_lost(options, began, ended, speed, shape, run_.report)
        throttle = run_.report["throttle"] if run_.report else {"max-percent": 0, "time": 0}
        return {**run_._asdict(), "events": [], "lost": lost, "speed": speed * PAGE, "held": throttle["time"] / 1000,
                "max-throttle": throttle["max-percent"], "expected": (run_.report or {}).get("expected-downtime")}


def judge(journal, case):
    for mode in POLICIES:
        runs = journal.select(BENCH, case, mode)
        if runs:
            print(f"  {case} {mode}: work lost {median(runs, 'lost'):.2f} s, held {median(runs, 'held'):.2f} s, at most "
                  f"{max(r['max-throttle'] for r in runs)} %, {sum(1 for r in runs if not r['ended'])} of {len(runs)} "
                  f"did not end")
    rate, stepped = journal.select(BENCH, case, "rate"), journal.select(BENCH, case, "stepped")
    if case in HARD and rate and stepped:
        verdict("work lost as part of stepped's", statistics.median(
            r["lost"] / s["lost"] for r, s in zip(rate, stepped)), 0.5)
