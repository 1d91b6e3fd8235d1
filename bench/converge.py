# SPDX-License-Identifier: Apache-2.0
"""Guests that write faster than their link carries, or nearly so: what each throttle-policy costs them.

Work lost is what the guest would have written besides if nobody had migrated it, in seconds of its full speed: the area
under its throughput curve, the pause at the switchover and what the engine takes of the CPUs included.
"""
import statistics
import time

from links import LINKS, chosen
from results import median, table, verdict
from stunts import Pair, mib

BENCH = "converge"
MEMORY = 2048
SHAPES = {"idle": None,
          "uniform": "uniform,rate=1500M,hot={hot}", "zipf": "zipf,rate=400M,skew=6",
          "sweep": "sweep,rate=200M,hot={hot}", "burst": "burst,rate=1500M,hot={hot},on=2,off=5",
          "grow": "grow,rate=40M"}
HOT = 512
# shape-link: "uniform-1g" is the hard one
CASES = tuple(f"{shape}-{link}" for shape in SHAPES for link in ("1g", "200m", "5g"))
POLICIES = ("none", "stepped", "staged", "rate")
MODES = POLICIES
BASELINE = 2.0
PAUSE = 0.3  # so that a line of statistics says what it did last


def at(guest):
    """(seconds, stamps) of its last word."""
    line = guest.stats_lines()[-1]
    return line["wall"] / 1e9, line["stamps"]


def full_speed(guest):
    """Stamps a second, when nothing else goes on."""
    began = at(guest)
    time.sleep(BASELINE)
    ended = at(guest)
    return (ended[1] - began[1]) / (ended[0] - began[0])


def work_lost(began, ended, speed, shape, report):
    """Seconds of its full speed. A guest that writes in bursts has no speed: what it was held back and stood still counts,
    as if it always wanted to write."""
    if speed <= 0:
        return 0.0
    if shape == "burst":
        return (report["throttle"]["time"] + report["downtime"]) / 1000 if report else 0.0
    return (ended[0] - began[0]) - (ended[1] - began[1]) / speed


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links or ("uniform-1g",), CASES), chosen(options.modes, POLICIES)
    print(f"\nconverge: stunt guest of {MEMORY * options.scale:.0f} MiB; {options.pairs} pairs, limit {options.limit} s",
          flush=True)
    first = journal.next_pair(BENCH)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in modes:
                journal.add(BENCH, case, mode, pair, one(options, case, mode))
    for case in cases:
        table(journal, BENCH, case, POLICIES, "rate")
        judge(journal, case)


def one(options, case, mode):
    shape, _, link = case.rpartition("-")
    load = SHAPES[shape]
    load = load.format(hot=mib(HOT, options.scale)) if load else None
    with Pair(mib(MEMORY, options.scale), load, LINKS[link]) as pair:
        speed = full_speed(pair.source)
        began = at(pair.source)
        run_ = pair.run({"throttle-policy": mode, "completion-timeout": options.limit}, options.limit + 20,
                        stop=False)
        time.sleep(PAUSE)
        there = pair.destination if run_.report else pair.source
        ended = at(there)
        lost = work_lost(began, ended, speed, shape, run_.report)
        throttle = run_.report["throttle"] if run_.report else {"max-percent": 0, "time": 0}
        return {**run_._asdict(), "events": [], "lost": lost, "speed": speed * 4096, "held": throttle["time"] / 1000,
                "max-throttle": throttle["max-percent"], "expected": (run_.report or {}).get("expected-downtime")}


def judge(journal, case):
    for mode in POLICIES:
        runs = journal.select(BENCH, case, mode)
        if runs:
            print(f"  {case} {mode}: work lost {median(runs, 'lost'):.2f} s, held {median(runs, 'held'):.2f} s, at most "
                  f"{max(r['max-throttle'] for r in runs)} %, {sum(1 for r in runs if not r['ended'])} of {len(runs)} "
                  f"did not end")
    rate, stepped = journal.select(BENCH, case, "rate"), journal.select(BENCH, case, "stepped")
    if case == "uniform-1g" and rate and stepped:
        verdict("work lost as part of stepped's", statistics.median(
            r["lost"] / s["lost"] for r, s in zip(rate, stepped)), 0.5)
