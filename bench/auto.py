# SPDX-License-Identifier: Apache-2.0
"""compression=auto beside each fixed setting: at links from 50 Mbit/s to as fast as it goes, on a link that changes
meanwhile, and beside another program that takes a CPU for a while.

A stunt guest, since an emulated CPU would take what is measured. Its memory is scaled with the link, so that a run takes
long enough and not too long; it writes a twentieth of what the link carries.
"""
import contextlib
import os
import threading

from gwtest import process

from links import LINKS, chosen
from results import best, ratio, table, verdict
from stunts import Pair, mib

BENCH = "auto"
UNSHAPED = 10**10  # bits/s, for the guest's load: about what a link that is not shaped carries here
FIXED = {"none": {"compression": "none"}, "lz4": {"compression": "lz4"},
         "zstd-1": {"compression": "zstd", "zstd-level": -1}, "zstd1": {"compression": "zstd", "zstd-level": 1},
         "zstd3": {"compression": "zstd", "zstd-level": 3}, "zstd6": {"compression": "zstd", "zstd-level": 6},
         "zstd9": {"compression": "zstd", "zstd-level": 9},
         "deflate1": {"compression": "deflate", "deflate-level": 1}}
MODES = {**FIXED, "auto": {"compression": "auto"}}


class Case:
    """What happens around the migration. `script` is [(seconds since it began, what)]; what is the new speed of the
    link by name, or "busy" or "idle" for the other program."""

    def __init__(self, link, memory, script=(), target=1.10):
        self.link, self.memory, self.script, self.target = link, memory, script, target

    def guest(self, scale):
        """(bytes of memory, load): it writes all over a quarter of its memory."""
        memory = mib(self.memory, scale)
        return memory, f"uniform,rate={(LINKS[self.link] or UNSHAPED) // 8 // 20},hot={memory // 4}"


CASES = {"50m": Case("50m", 160), "200m": Case("200m", 512), "1g": Case("1g", 2048), "5g": Case("5g", 4096),
         "unshaped": Case("unshaped", 4096),
         "1g-100m-1g": Case("1g", 3072, ((2, "100m"), (8, "1g")), 1.15),
         "1g-busy": Case("1g", 3072, ((2, "busy"), (6, "idle")), 1.15),
         "5g-busy": Case("5g", 4096, ((0.7, "busy"), (2.2, "idle")), 1.15)}


class Script:
    """Does what a case asks for, in a thread, from when it is entered. What is not due yet when it is left is not
    done."""

    def __init__(self, hosts, script):
        self.hosts, self.script = hosts, script
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.play, name="script")
        self.other = None

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()
        self.free_cpu()

    def play(self):
        before = 0
        for seconds, what in self.script:
            if self.over.wait(seconds - before):
                return
            before = seconds
            if what == "busy":
                self.take_cpu()
            elif what == "idle":
                self.free_cpu()
            else:
                self.hosts.rate(LINKS[what])

    def take_cpu(self):
        last = max(os.sched_getaffinity(0))
        self.other = process.spawn(["taskset", "-c", last, "sh", "-c", "while :; do :; done"])

    def free_cpu(self):
        if self.other is not None:
            process.kill(self.other)
            self.other = None


def one(options, case, mode):
    with Pair(*case.guest(options.scale), LINKS[case.link]) as pair:
        during = Script(pair.hosts, case.script) if case.script else contextlib.nullcontext()
        return pair.run(MODES[mode], options.limit, during)


def judge(journal, name):
    rival = best(journal, BENCH, name, FIXED)
    if rival is not None:
        verdict(f"total time as part of {rival}'s, the best fixed setting",
                ratio(journal.select(BENCH, name, rival), journal.select(BENCH, name, "auto")), CASES[name].target)


def run(options):
    journal = options.journal
    modes = chosen(options.modes, MODES)
    cases = chosen(options.links, CASES)
    print(f"\nauto: stunt guest, 70 % of its memory filled, writes 5 % of what the link carries; {options.pairs} rounds",
          flush=True)
    for name in cases:
        print(f"  {name}: {CASES[name].memory * options.scale:.0f} MiB"
              f"{''.join(f', at {s} s {what}' for s, what in CASES[name].script)}")
    journal.rounds(BENCH, cases, modes, options.pairs, lambda name, mode, _: one(options, CASES[name], mode))
    for name in cases:
        table(journal, BENCH, name, MODES, "auto")
        judge(journal, name)
