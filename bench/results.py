# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measured: kept as it comes, printed as medians and as ratios of pairs.

A run is a dictionary with "bench", "case" (such as the link), "mode" (what was compared there), "pair", and figures.
Runs of the same pair were made one after the other, in the same minutes: only those are divided by each other.
"""
import hashlib
import json
import os
import statistics

from gwtest import places

AGAIN = 3  # times at most that a run is made again

FIGURES = (("total", "total s", 1, 2), ("downtime", "downtime ms", 1, 0), ("wire", "wire MB", 1e-6, 0),
           ("cpu", "CPU s", 1, 2), ("lost", "lost s", 1, 2), ("stolen", "stolen %", 1, 1))


def build():
    """Tells one godwit from another."""
    with open(places.godwit(), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:12]


def cpu_times():
    """(ticks that the machine's own host took away, of all that somebody wanted), all CPUs together."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    return steal, user + nice + system + irq + softirq + steal


def as_dict(run):
    """A run that may be a namedtuple."""
    return run if isinstance(run, dict) else run._asdict()


class Journal:
    """All runs. With a path they are in that file too after each run, for a campaign takes hours and may be cut short;
    runs that the file held before count with the new ones, so that a campaign can be made in parts. Runs of another
    build of godwit, or with another --scale, stay in the file and do not count."""

    def __init__(self, path, machine, scale=1.0, new=True, calm=None):
        """new: runs are going to be made; otherwise those that count are the kind that was made last
        calm: percent of the CPU time wanted that the machine's own host may take away during a run that counts"""
        self.calm = calm
        self.path = path
        self.machine = machine
        self.kind = {"scale": scale, "build": build()}
        self.runs = []
        self.broken = []  # what went wrong with godwit
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.runs = json.load(file)["runs"]
            if self.runs and not new:
                self.kind = {key: self.runs[-1][key] for key in self.kind}

    def next_pair(self, bench):
        return 1 + max((r["pair"] for r in self.runs if r["bench"] == bench), default=0)

    def add(self, bench, case, mode, pair, run, ours=True):
        """`run` is a namedtuple or a dictionary; `ours`: problems are godwit's."""
        run = {"bench": bench, "case": case, "mode": mode, "pair": pair, **self.kind, **as_dict(run)}
        self.runs.append(run)
        if self.path:
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump({"machine": self.machine, "runs": self.runs}, file, indent=1)
            os.replace(self.path + ".new", self.path)
        wrong = list(run.get("problems", [])) + ([] if run.get("ended", True) else ["did not end in its time"])
        if ours:
            self.broken += [f"{bench} {case} {mode}: {text}" for text in wrong]
        figures = [f"{run[key] * scale:.{digits}f} {title.partition(' ')[2]}"
                   for key, title, scale, digits in FIGURES if key in run]
        print(f"  {case:12} {mode:16} {'  '.join(figures)}{'  ! ' + '; '.join(wrong) if wrong else ''}", flush=True)
        return run

    def rounds(self, bench, cases, modes, pairs, measure):
        """`pairs` more runs of each case: all modes one after the other, so that they can be paired. `measure(case, mode,
        pair)` returns a run."""
        first = self.next_pair(bench)
        for case in cases:
            for pair in range(first, first + pairs):
                for mode in modes:
                    self.add(bench, case, mode, pair, self.calmest(measure, case, mode, pair))

    def calmest(self, measure, *what):
        """A run as a dictionary, with the percentage of CPU time that was "stolen" meanwhile. Where that was too much it is
        made again, whatever it says, and the calmest counts; one that went wrong always does."""
        tried = []
        for _ in range(1 + AGAIN):
            before = cpu_times()
            run = measure(*what)
            stolen, spent = (b - a for a, b in zip(before, cpu_times()))
            run = {**as_dict(run), "stolen": round(100 * stolen / max(spent, 1), 1)}
            tried.append(run)
            if run.get("problems"):
                return run
            if self.calm is None or run["stolen"] <= self.calm:
                break
        return min(tried, key=lambda r: r["stolen"])

    def select(self, bench, case, mode):
        wanted = {"bench": bench, "case": case, "mode": mode, **self.kind}
        return [r for r in self.runs if wanted.items() <= r.items()]


def median(runs, key):
    return statistics.median(r[key] for r in runs)


def ended(runs):
    """Whether at least half of them did: the median of the total time is one that was reached."""
    return 2 * sum(r.get("ended", True) for r in runs) >= len(runs) > 0


def ratio(left, right, key="total"):
    """The median of right/left over pairs that have both, or None."""
    others = {r["pair"]: r for r in left}
    both = [r[key] / others[r["pair"]][key] for r in right if r["pair"] in others and others[r["pair"]][key] > 0]
    return statistics.median(both) if both else None


def ratio_text(value, bound=False):
    return "-" if value is None else f"{'<' if bound else ''}{value:.2f}"


def table(journal, bench, case, modes, against):
    """Medians of each mode, and the ratio of `against` to it. A mode that did not end has its limit as total time, so
    that a ratio to it is an upper bound."""
    ours = journal.select(bench, case, against)
    every = [r for m in modes for r in journal.select(bench, case, m)]
    figures = [f for f in FIGURES if every and all(f[0] in r for r in every)]
    titles = "".join(f"{title:>13}" for _, title, _, _ in figures)
    print(f"\n{case:16}{'runs':>5}{titles}{'(min..max s)':>18}{against + '/it: time':>24}{'CPU':>8}")
    for mode in modes:
        runs = journal.select(bench, case, mode)
        if not runs:
            continue
        late = not ended(runs)
        cells = []
        for key, _, scale, digits in figures:
            text = f"{median(runs, key) * scale:.{digits}f}"
            cells.append(f"{'>' + text if late and key == 'total' else '-' if late and key == 'downtime' else text:>13}")
        spread = f"{min(r['total'] for r in runs):.2f}..{max(r['total'] for r in runs):.2f}"
        shares = ["", ""] if mode == against else [ratio_text(ratio(runs, ours), late),
                                                   ratio_text(ratio(runs, ours, "cpu"))]
        bad = sum(bool(r.get("problems")) for r in runs)
        print(f"{mode:16}{len(runs):>5}{''.join(cells)}{spread:>18}{shares[0]:>24}{shares[1]:>8}"
              f"{f'  {bad} of them went wrong' if bad else ''}", flush=True)


def best(journal, bench, case, modes):
    """The mode with the smallest median of total time among those that ended; when none did, the first that was run."""
    tried = [m for m in modes if journal.select(bench, case, m)]
    fair = [m for m in tried if ended(journal.select(bench, case, m))] or tried
    return min(fair, key=lambda m: median(journal.select(bench, case, m), "total"), default=None)


def verdict(what, value, limit, bound=False, atleast=False):
    """One line that says whether a target was reached. `bound`: the value is an upper bound."""
    if value is None:
        print(f"  {what}: not measured")
        return
    reached = value >= limit if atleast else value <= limit
    print(f"  {what}: {'<' if bound else ''}{value:.3g} (target {'>=' if atleast else '<='} {limit:.3g}): "
          f"{'reached' if reached else 'MISSED'}", flush=True)
