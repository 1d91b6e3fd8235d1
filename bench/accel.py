# SPDX-License-Identifier: Apache-2.0
"""Emulated accelerators: a fast one beside stock QEMU's compress threads, two slow ones beside one, and one that two
migrations share.

The emulated card compresses with this machine's CPUs. So a card cannot really be faster than they are, and what it
takes, the engines and the guests do not have; its CPU time is not the engine's and is not counted.
"""
import contextlib
import tempfile
import time

import pipeline
from gwtest import netns
from gwtest.card import Card
from links import LINKS, chosen
from results import best, median, ratio, table, verdict
from stunts import Pair, mib

BENCH = "accel"
FAST = 5_000_000_000  # bytes/s: more than any link here carries
SLOW = 100_000_000    # so little that the card is what everything waits for
RIVALS = ("threads8", "threads2")
# qat: a card at the source; qat-both: one at each end
LINK_MODES = (*RIVALS, "no-codec", "qat", "qat-both")
MODES = (*LINK_MODES, "one-card", "two-cards", "shared")
MEMORY = 1536
AT_THE_WIRE = 1.15  # what a connection, headers and the switchover take besides


@contextlib.contextmanager
def cards(count, rate):
    """A list of so many."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="godwit-cards-"))
        yield [stack.enter_context(Card(directory, f"card{i}", rate=rate)) for i in range(count)]


def settings(*those):
    """--set for a source that compresses on these cards."""
    return {"compression": "qat", "accel-devices": ",".join(card.device for card in those)}


def shares(report):
    """Bytes of input that each device of a report did."""
    return [device["in"] for device in report["accel"]["devices"]]


def godwit_run(options, mode):
    """A real guest, as in the benchmark "pipeline". The figures of a Run, and the engines' CPU seconds."""
    if mode == "no-codec":
        run = pipeline.godwit_run(options, LINKS["1g"], {"compression": "none"})
    else:
        with cards(2, FAST) as (here, there):
            theirs = {"accel-devices": there.device} if mode == "qat-both" else None
            run = pipeline.godwit_run(options, LINKS["1g"], settings(here), theirs)
        if run.report["accel"]["fallbacks"]:
            run.problems.append(f"{run.report['accel']['fallbacks']} batches were not compressed by the card")
    engines = run.report["engines"]
    return {**run._asdict(), "source-cpu": engines["send"], "engines-cpu": sum(engines.values())}


def fast(options, pair, modes):
    journal = options.journal
    for mode in chosen(modes, LINK_MODES):
        if mode in RIVALS:
            journal.add(BENCH, "1g", mode, pair, pipeline.stock_run(options, LINKS["1g"], mode), ours=False)
        else:
            journal.add(BENCH, "1g", mode, pair, godwit_run(options, mode))


def judge_time(journal, ours):
    """The target is a part of the compress threads' time; but no card can make the wire faster."""
    rival = best(journal, BENCH, "1g", RIVALS)
    limit = median(ours, "wire") / (LINKS["1g"] / 8)
    print(f"  the bytes alone need {limit:.2f} s on this link")
    part = ratio(journal.select(BENCH, "1g", rival), ours) if rival else None
    if part is not None and part > 1 / 8.19:
        print(f"  total time as part of {rival}'s: {part:.3f}, more than 1/8.19: is the wire the limit?")
        verdict("total time as part of what the bytes alone need", median(ours, "total") / limit, AT_THE_WIRE)
    else:
        verdict(f"total time as part of {rival or 'compress threads'}'", part, 1 / 8.19)


def judge_fast(journal):
    table(journal, BENCH, "1g", LINK_MODES, "qat")
    ours, both, plain = (journal.select(BENCH, "1g", mode) for mode in ("qat", "qat-both", "no-codec"))
    if ours:
        judge_time(journal, ours)
    # With one card the destination decompresses itself, which compression=none spares it.
    for runs, key, what in ((ours, "source-cpu", "CPU of the source's engine"),
                            (ours, "engines-cpu", "CPU of both engines"),
                            (both, "engines-cpu", "CPU of both engines, a card at each end")):
        part = ratio(plain, runs, key)
        if part is not None:
            verdict(f"{what} ({median(runs, key):.2f} s) as part of compression=none's", part, 1.2)


def two(options, pair, modes):
    for mode in chosen(modes, ("one-card", "two-cards")):
        with cards(2 if mode == "two-cards" else 1, SLOW) as those, Pair(mib(MEMORY, options.scale), "idle") as guests:
            run = guests.run(settings(*those), options.limit)
        options.journal.add(BENCH, "slow-cards", mode, pair, {**run._asdict(), "shares": shares(run.report)})


def judge_two(journal):
    table(journal, BENCH, "slow-cards", ("one-card", "two-cards"), "two-cards")
    part = ratio(journal.select(BENCH, "slow-cards", "one-card"), journal.select(BENCH, "slow-cards", "two-cards"))
    verdict("speed of two cards as a multiple of one's", 1 / part if part else None, 1.8, atleast=True)


def compressed(migration):
    """Bytes that went through the card so far, or None when the migration does not answer any more."""
    try:
        with migration.send.control(timeout=5) as control:
            return control.execute("query-migrate")["codecs"].get("deflate", {}).get("in", 0)
    except (OSError, TimeoutError, ConnectionError):
        return None


def watch(migrations):
    """[(bytes of the first, bytes of the second)] while both run."""
    seen = []
    while all(m.send.alive() for m in migrations):
        now = [compressed(m) for m in migrations]
        if None in now:
            break
        seen.append(tuple(now))
        time.sleep(0.1)
    return seen


def shared(options, pair):
    """The shares of two migrations in what one card did from when both had got something until one was done."""
    with cards(1, SLOW) as (card,), netns.Hosts() as hosts:
        with Pair(mib(MEMORY / 2, options.scale), "idle", hosts=hosts, name="first") as one, \
                Pair(mib(MEMORY / 2, options.scale), "idle", hosts=hosts, name="second") as other:
            with one.start(settings(card), 4914) as left, other.start(settings(card), 4915) as right:
                seen = [s for s in watch((left, right)) if min(s) > 0]
                reports = [m.complete(options.limit) for m in (left, right)]
                spent = left.cpu_seconds() + right.cpu_seconds()
            problems = one.problems() + other.problems()
    done = [end - start for start, end in zip(seen[0], seen[-1])] if len(seen) > 1 else [0, 0]
    if sum(done) == 0:
        problems.append("the two were not seen at work together: too little memory")
    least = min(done) / sum(done) if sum(done) else 0.0
    options.journal.add(BENCH, "shared-card", "shared", pair,
                        {"total": max(r["total-time"] for r in reports) / 1000, "cpu": spent, "problems": problems,
                         "bytes": done, "least": least, "report": reports})
    print(f"    the smaller share: {least * 100:.1f} %", flush=True)


def judge_shared(journal):
    runs = journal.select(BENCH, "shared-card", "shared")
    print()
    verdict("smaller share of two migrations in one card", median(runs, "least") if runs else None, 0.45, atleast=True)


CASES = {"1g": (fast, judge_fast), "slow-cards": (two, judge_two), "shared-card": (shared, judge_shared)}


def run(options):
    journal = options.journal
    cases = chosen(options.links, CASES)
    print(f"\naccel: emulated cards; 1g: {pipeline.setup(options)}, card of {FAST / 1e9:.0f} GB/s; slow-cards and "
          f"shared-card: idle stunt guests of {MEMORY * options.scale:.0f} MiB and twice half of it, cards of "
          f"{SLOW / 1e6:.0f} MB/s, link not shaped; {options.pairs} pairs", flush=True)
    first = journal.next_pair(BENCH)
    for case in cases:
        for pair in range(first, first + options.pairs):
            work = CASES[case][0]
            work(options, pair) if work is shared else work(options, pair, options.modes)
    for case in cases:
        CASES[case][1](journal)
