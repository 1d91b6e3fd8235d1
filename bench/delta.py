# SPDX-License-Identifier: Apache-2.0
"""What pages cost that were written but changed little, or not at all, once their content has been sent.

sparse  a guest on 2 MiB pages writes 8 bytes here and there: the kernel says that 2 MiB are dirty
same    a guest writes over and over what is there already
Both with all means, without digests, without the cache of versions, and without either. Counted are the bytes of the
passes behind the first one, from --events. Without the means a migration may never end, so it is stopped after a while:
its passes are what is looked at.
"""
import statistics
import time

from gwtest.hugepages import SIZE

from links import LINKS, chosen
from results import ended, verdict
from stunts import Pair, mib, passes

BENCH = "delta"
MODES = {"all": {}, "no-digests": {"page-digests": "off"}, "no-cache": {"xbzrle-cache-size": 0},
         "neither": {"page-digests": "off", "xbzrle-cache-size": 0}}
PAGE = 4096
MEMORY = 1024
LONG_ENOUGH = 30  # seconds
# How many of a thing the guest writes in a second: a touched page counts 4096 bytes in the stunt's rate=
CASES = {"sparse": {"huge": True, "load": f"uniform,write=8,rate={200 * PAGE}"},
         "dense": {"huge": True, "load": f"uniform,write=8,rate={5000 * PAGE}"},
         "same": {"huge": False, "load": f"sweep,same=1,write=4096,hot={64 << 20},rate={100 << 20}"}}
LAP = 2  # seconds until the guest of "same" has written each of its pages once: only then it repeats itself


def one(options, case, mode):
    with Pair(mib(MEMORY, options.scale), link=LINKS["1g"], **CASES[case]) as pair:
        time.sleep(LAP)
        run = pair.run(MODES[mode], min(LONG_ENOUGH, options.limit))
    later = passes(run)[1:]
    pages, sent = sum(p for p, _ in later), sum(b for _, b in later)
    return {**run._asdict(), "dirtied": pages * PAGE, "sent": sent, "passes": len(later),
            "part": sent / (pages * PAGE) if pages else 0.0}


def line(case, mode, runs):
    def middle(key):
        return statistics.median(r[key] for r in runs)

    ram = [r["report"]["ram"] for r in runs if r["report"]]
    kinds = "".join(f"{statistics.median(r[k] for r in ram) if ram else '-':>11}" for k in ("unchanged", "delta"))
    unit = SIZE if CASES[case]["huge"] else PAGE
    print(f"{case:10}{mode:12}{len(runs):>5}{middle('passes'):>8.0f}{middle('dirtied') / 1e6:>13.1f}"
          f"{middle('sent') / 1e3:>11.1f}{middle('part') * unit:>16.1f}{middle('part') * 100:>11.4f} %{kinds}"
          f"{middle('total'):>9.2f}{middle('cpu'):>8.2f}{'' if ended(runs) else '  did not end'}", flush=True)


def run(options):
    journal = options.journal
    print(f"\ndelta: stunt guest of {MEMORY * options.scale:.0f} MiB, 70 % filled, link of 1 Gbit/s, compression=auto, "
          f"{options.pairs} rounds\n  sparse: 200 random writes of 8 bytes a second on pages of 2 MiB; dense: 5000; "
          f"same: 100 MiB/s written over 64 MiB on pages of 4 KiB, nothing changes", flush=True)
    first = journal.next_pair(BENCH)
    cases, modes = chosen(options.links, CASES), chosen(options.modes, MODES)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in modes:
                journal.add(BENCH, case, mode, pair, one(options, case, mode), ours=mode == "all")
    print(f"\n{'':10}{'':12}{'runs':>5}{'passes':>8}{'dirtied MB':>13}{'sent kB':>11}{'bytes a page':>16}"
          f"{'of a page':>13}{'unchanged':>11}{'delta':>11}{'total s':>9}{'CPU s':>8}")
    for case in cases:
        for mode in MODES:
            runs = journal.select(BENCH, case, mode)
            if runs:
                line(case, mode, runs)
        runs = journal.select(BENCH, case, "all")
        verdict("part of what was dirtied that was sent", statistics.median(r["part"] for r in runs) if runs else None,
                0.01)
