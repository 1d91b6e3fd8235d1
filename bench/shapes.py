# SPDX-License-Identifier: Apache-2.0
"""The ways in which guests write that convergence is measured with, and what a migration takes from such a guest."""
import statistics
import time

from links import LINKS
from stunts import Pair, mib

MEMORY = 2048
HOT = 512
SHAPES = {"idle": None,
          "uniform": "uniform,rate=1500M,hot={hot}", "zipf": "zipf,rate=400M,skew=6", "slow": "zipf,rate=100M,skew=6",
          "sweep": "sweep,rate=200M,hot={hot}", "burst": "burst,rate=1500M,hot={hot},on=2,off=5",
          "grow": "grow,rate=40M",
          "pages": "uniform,rate=1500M,hot={hot},write=4096"}  # whole pages: nothing is left to send changes of
SIX = ("idle", "uniform", "zipf", "sweep", "burst", "grow")
THREE = ("1g", "200m", "5g")
SLICES, SLICE = 5, 0.5  # seconds
PAGE = 4096


def guest(options, shape, link):
    """The Pair of a guest of one of SHAPES."""
    load = SHAPES[shape]
    return Pair(mib(MEMORY, options.scale), load and load.format(hot=mib(HOT, options.scale)), LINKS[link])


def at(guest_):
    """(seconds, stamps) of its last word."""
    line = guest_.stats_lines()[-1]
    return line["wall"] / 1e9, line["stamps"]


def full_speed(guest_):
    """Stamps a second, when nothing else goes on. A median: the machine's own host takes CPUs away now and then."""
    words = [at(guest_)]
    for _ in range(SLICES):
        time.sleep(SLICE)
        words.append(at(guest_))
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(words, words[1:]))


def work_lost(options, began, ended, speed, shape, report):
    """Seconds of its full speed that the guest would have written besides if nobody had migrated it: the area under its
    throughput curve, the pause and what the engine takes of the CPUs included. A guest that writes in bursts has no
    speed: what it was held back and stood still counts, as if it always wanted to write. One whose set grows to all of
    its memory has no more to write then."""
    if shape == "burst":
        return (report["throttle"]["time"] + report["downtime"]) / 1000 if report else 0.0
    if speed <= 0:
        return 0.0
    wanted = speed * (ended[0] - began[0])
    if shape == "grow":
        wanted = min(wanted, mib(MEMORY, options.scale) / PAGE - began[1])
    return (wanted - (ended[1] - began[1])) / speed
