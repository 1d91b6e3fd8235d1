# SPDX-License-Identifier: Apache-2.0
"""Hot segments that wait (ram-delay-save-percent) beside none that do, on a guest that writes some of its memory far
more often than the rest.

RAM sent is pages that took anything to send; the guest's mixture of zero pages does not count.
"""
import statistics

from links import chosen
from results import median, table, verdict
from shapes import MEMORY, PAGE, THREE, at, full_speed, guest, work_lost

BENCH = "heat"
SHAPES = ("zipf", "slow", "uniform", "idle")
POLICIES = ("rate", "none")
# shape-link-policy; where "none" does not end by itself the switchover is forced after --limit
CASES = tuple(f"{shape}-{link}-{policy}" for shape in SHAPES for link in THREE for policy in POLICIES)
SHARES = {"deferral-off": 0, "deferral-on": 30}
MODES = tuple(SHARES)


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links, CASES if options.links else ("zipf-1g-rate",)), chosen(options.modes, MODES)
    print(f"\nheat: stunt guest of {MEMORY * options.scale:.0f} MiB; {options.pairs} pairs", flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for case in cases:
        table(journal, BENCH, case, MODES, "deferral-on")
        judge(journal, case)


def one(options, case, mode):
    shape, link, policy = case.split("-")
    settings = {"throttle-policy": policy, "ram-delay-save-percent": SHARES[mode], "completion-timeout": options.limit,
                "timeout-action": "force"}
    with guest(options, shape, link) as pair:
        speed = full_speed(pair.source)
        began = at(pair.source)
        run_ = pair.run(settings, options.limit + 60, stop=False)
        ended = at(pair.destination if run_.report else pair.source)
        lost = work_lost(options, began, ended, speed, shape, run_.report)
        ram = run_.report["ram"] if run_.report else {"normal": 0, "delta": 0, "unchanged": 0, "deferred": 0}
        passes = [e for e in run_.events if e["event"] == "pass"]
        return {**run_._asdict(), "events": [], "report": None, "lost": lost, "sent": (ram["normal"] + ram["delta"]) * PAGE,
                "unchanged": ram["unchanged"] * PAGE, "deferred": ram["deferred"] * PAGE,
                "passes": [(e["pages"], e.get("deferred", 0), round(e["ms"])) for e in passes]}


def judge(journal, case):
    found = {mode: journal.select(BENCH, case, mode) for mode in MODES}
    for mode, runs in found.items():
        if runs:
            print(f"  {case} {mode}: sent {median(runs, 'sent') / 2**20:.0f} MiB, waited {median(runs, 'deferred') / 2**20:.0f} "
                  f"MiB, work lost {median(runs, 'lost'):.2f} s, passes {[len(r['passes']) for r in runs]}")
    off, on = found["deferral-off"], found["deferral-on"]
    if off and on:
        pairs = list(zip(off, on))
        verdict(f"{case}: RAM sent, of that without", statistics.median(b["sent"] / a["sent"] for a, b in pairs), 0.65)
        verdict(f"{case}: total time, of that without", statistics.median(b["total"] / a["total"] for a, b in pairs), 1)
