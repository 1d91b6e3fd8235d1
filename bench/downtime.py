# SPDX-License-Identifier: Apache-2.0
"""How long guests stand still, seen from outside, beside downtime-limit and beside what was forecast.

A stunt guest writes its statistics when it stops and when it starts, with the time by the clock that both hosts share
here: what lies between them is the pause that its users have. The loads are as different as guests are: from none to
more than the link carries, written by the word and by the page.
"""
import statistics

from links import LINKS, chosen
from results import median, verdict
from stunts import Pair, mib

BENCH = "downtime"
MEMORY = 512
LIMITS = {"50ms": 50, "100ms": 100, "300ms": 300}
CASES = tuple(LIMITS)
WITHIN = 0.95  # of the migrations keep their limit
LOADS = (None, "uniform,rate=20M", "uniform,rate=100M,hot=64M", "uniform,rate=400M,hot=128M", "zipf,rate=100M,skew=6",
         "zipf,rate=400M,skew=6", "sweep,rate=50M,hot=128M", "sweep,rate=200M,hot=128M",
         "burst,rate=400M,hot=64M,on=1,off=2", "uniform,rate=40M,write=4096")


def pause(pair):
    """ms from where the source stopped to where the destination ran."""
    lines = pair.source.stats_lines()
    stopped = lines[1 + max(i for i, line in enumerate(lines) if line["running"])]
    started = next(line for line in pair.destination.stats_lines() if line["running"])
    return (started["wall"] - stopped["wall"]) / 1e6


def one(options, limit, load):
    with Pair(mib(MEMORY, options.scale), load, LINKS["1g"]) as pair:
        run_ = pair.run({"downtime-limit": limit, "completion-timeout": options.limit}, options.limit + 20)
        outside = pause(pair)
        return {**run_._asdict(), "events": [], "load": load or "idle", "outside": outside,
                "expected": run_.report["expected-downtime"]}


def judge(journal, case):
    runs = journal.select(BENCH, case, "rate")
    limit = LIMITS[case]
    within = sum(r["outside"] <= limit for r in runs)
    errors = [abs(r["expected"] - r["outside"]) / r["outside"] for r in runs]
    print(f"\n{case}: {len(runs)} migrations, {within} within the limit; pause: median {median(runs, 'outside'):.1f} ms, "
          f"at most {max(r['outside'] for r in runs):.1f} ms")
    for r in runs:
        if r["outside"] > limit:
            print(f"  beyond: {r['outside']:.1f} ms, forecast {r['expected']:.1f} ms, {r['load']}")
    verdict("part of them within the limit", within / len(runs), WITHIN, atleast=True)
    verdict("the forecast's error, median", statistics.median(errors), 0.25)


def run(options):
    journal = options.journal
    print(f"\ndowntime: stunt guests of {MEMORY * options.scale:.0f} MiB, 1 Gbit/s, {len(LOADS)} loads in turn; "
          f"{options.pairs} migrations for each limit", flush=True)
    cases = chosen(options.links, LIMITS)
    journal.rounds(BENCH, cases, ("rate",), options.pairs,
                   lambda case, _, number: one(options, LIMITS[case], LOADS[number % len(LOADS)]))
    for case in cases:
        judge(journal, case)
