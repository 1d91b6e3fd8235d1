# SPDX-License-Identifier: Apache-2.0
"""What `godwit predict` said of a migration beside what it then was: the same guest, link, policy and receiver."""
import statistics
import time

from gwtest import engine
from gwtest.measured import warm
from links import chosen
from shapes import MEMORY, SIX, THREE, guest

BENCH = "predict"
CASES = tuple(f"{shape}-{link}" for shape in SIX for link in THREE)
MODES = ("none", "stepped", "staged", "rate")
CLOSE = 0.25
ENOUGH = 15 / 18


def run(options):
    journal = options.journal
    cases, modes = chosen(options.links, CASES), chosen(options.modes, ("rate",))
    if options.modes:
        modes = chosen(options.modes, MODES)
    print(f"\npredict: stunt guest of {MEMORY * options.scale:.0f} MiB; {options.pairs} runs of each", flush=True)
    journal.rounds(BENCH, cases, modes, options.pairs, lambda case, mode, _: one(options, case, mode))
    for mode in modes:
        judge(journal, cases, mode)


def one(options, case, mode):
    shape, _, link = case.rpartition("-")
    settings = {"throttle-policy": mode, "completion-timeout": options.limit}
    with guest(options, shape, link) as pair:
        warm(pair.memory)
        address = f"tcp:{pair.hosts.b.address}:{engine.PORT}"
        with engine.Engine("receive", "--qmp", pair.destination.qmp_path, "--listen", address,
                           netns=pair.hosts.b.netns) as receive:
            receive.wait_listening(engine.PORT)
            began = time.monotonic()
            with engine.Engine("predict", "--qmp", pair.source.qmp_path, "--to", address, "--json",
                               netns=pair.hosts.a.netns, settings=settings, machine=False) as predict:
                said = predict.wait(120)
            took = time.monotonic() - began
            if said.report is None or "policies" not in said.report:
                raise RuntimeError(f"predict failed: {said}")
            with engine.Engine("send", "--qmp", pair.source.qmp_path, "--to", address, netns=pair.hosts.a.netns,
                               settings=settings) as send:
                sent = send.wait(options.limit + 60)
            return row(said, sent, mode, took)


def row(said, sent, mode, took):
    outlook, report = said.report["policies"][mode], sent.report or {}
    ended = sent.code == 0
    ram = report.get("ram", {})
    return {"total": report.get("total-time", 0) / 1000 if ended else 0.0, "downtime": report.get("downtime") or 0,
            "wire": ram.get("transferred", 0), "ended": ended, "said-ends": outlook["ends"], "took": took,
            "said-total": outlook["total-time"]["likely"] / 1000, "said-least": outlook["total-time"]["least"] / 1000,
            "said-most": outlook["total-time"]["most"] / 1000, "said-downtime": outlook["downtime"]["likely"],
            "said-wire": outlook["transferred"]["likely"], "recommended": said.report["recommended"],
            "link": said.report["link"]["rate"], "cpu": 0.0, "problems": [], "events": [], "report": None}


def judge(journal, cases, mode):
    runs = [(case, r) for case in cases for r in journal.select(BENCH, case, mode)]
    if not runs:
        return
    print(f"\nthrottle-policy={mode}\n{'case':14} {'link':>6} {'ends':>7} {'ended':>5} {'said s':>18} {'was s':>7} "
          f"{'off':>6} {'pause said':>10} {'was':>6} {'MiB said':>8} {'was':>6} best")
    for case, r in runs:
        off = f"{r['said-total'] / r['total'] - 1:+.0%}" if r["ended"] else ""
        print(f"{case:14} {r['link'] / 1e6:6.0f} {r['said-ends']:>7} {'yes' if r['ended'] else 'no':>5} "
              f"{r['said-total']:6.1f} ({r['said-least']:.1f}..{r['said-most']:.1f}) {r['total']:7.1f} {off:>6} "
              f"{r['said-downtime']:10.0f} {r['downtime']:6.0f} {r['said-wire'] / 2**20:8.0f} {r['wire'] / 2**20:6.0f} "
              f"{r['recommended']}")
    judged = [by_median(found) for case in cases if (found := journal.select(BENCH, case, mode))]
    print(f"  medians of each case: right whether it ends: {sum(right for right, _ in judged)} of {len(judged)}; total time "
          f"within {CLOSE:.0%}: {sum(near for _, near in judged)} of {len(judged)} (aim {ENOUGH:.0%})")


def by_median(runs):
    """(whether it was said rightly that it ends, whether its total time was), by the median of what was said by what was."""
    ended = [r for r in runs if r["ended"]]
    says = [r["said-ends"] == "yes" for r in runs]
    if 2 * len(ended) < len(runs):
        return not any(says), not any(says)
    return all(says), abs(statistics.median(r["said-total"] / r["total"] for r in ended) - 1) <= CLOSE
