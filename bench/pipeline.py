# SPDX-License-Identifier: Apache-2.0
"""A busy guest of 2 GiB over links from slow to fast: godwit beside every mode in which stock QEMU compresses.

Every mode of a pair gets a fresh guest. A stock migration that has not ended after --limit seconds is cancelled, and
counts as that long: the guest writes faster than a slow link carries, and stock QEMU may go on for ever.
"""
from gwtest import places, qemu, stock
from gwtest.measured import Measured

from links import LINKS, chosen
from results import best, ended, ratio, table, verdict

BENCH = "pipeline"
MEMORY = 2048 * qemu.MIB
FILL = 1400
DIRTY = 20_000_000  # bytes/s
CASES = ("100m", "1g", "unshaped")
# Stock QEMU's; godwit always runs. See guest() about "-exact".
MODES = {"none": {"channels": 2}, "zlib": {"channels": 2, "compression": "zlib"},
         "zstd": {"channels": 2, "compression": "zstd"}, "threads8": {"channels": 0, "threads": 8},
         "threads2": {"channels": 0, "threads": 2}}
EXACT = "-exact"
if stock.loses_writes():
    MODES.update({mode + EXACT: MODES[mode] for mode in ("none", "zstd")})
THREADS = ("threads8", "threads2")
# case: (time, CPU) of godwit as a part of the best stock mode's
TARGETS = {"100m": (0.75, None), "1g": (0.85, 0.6), "unshaped": (0.5, 0.4)}
THREADS_TARGETS = {"1g": (0.25, 0.15)}


def guest(options, link, exact=False):
    """A guest of the right kind, as large as --scale says.

    An old QEMU loses writes of an emulated guest (stock.loses_writes()), and the size that avoids it sends its dirty
    bitmap down a slow path: 0.1 s and more in each round for each GiB, which a guest under KVM would not pay. So the modes
    that are fast enough to notice also run with the exact size. What they lose they need not send: those figures are
    better than an honest QEMU's, and the truth lies between the two.
    """
    load = {"mem": int(FILL * options.scale), "rate": DIRTY // 1024}
    memory = int(MEMORY * options.scale) // qemu.MIB * qemu.MIB
    return Measured(memory, load, link, exact=exact, baseline=5)


def setup(options):
    return (f"guest of {MEMORY * options.scale / qemu.MIB:.0f} MiB with {FILL * options.scale:.0f} MiB of mixed "
            f"content, {DIRTY / 1e6:.0f} MB/s written, accelerator {places.accelerator()}, stock QEMU "
            f"{'.'.join(map(str, stock.version()))}")


def stock_run(options, link, mode):
    with guest(options, link, exact=mode.endswith(EXACT)) as pair:
        return pair.stock(timeout=options.limit, **MODES[mode])


def godwit_run(options, link, settings=None, receive_settings=None):
    with guest(options, link) as pair:
        return pair.godwit(settings, timeout=options.limit, receive_settings=receive_settings)


def judge(journal, case, rivals, targets):
    """Compares with the fastest of `rivals`."""
    rivals = [r for r in rivals if journal.select(BENCH, case, r)]
    rival = best(journal, BENCH, case, rivals)
    ours = journal.select(BENCH, case, "godwit")
    if rival is None or not ours:
        return
    theirs = journal.select(BENCH, case, rival)
    time, cpu = targets
    verdict(f"total time as part of {rival}'s, the fastest of {', '.join(rivals)}", ratio(theirs, ours), time,
            bound=not ended(theirs))
    if cpu is not None:
        verdict(f"CPU as part of {rival}'s", ratio(theirs, ours, "cpu"), cpu)


def modes_of(options, case):
    """At the slowest link a guest that lost its writes would seem to converge."""
    return [m for m in chosen(options.modes, MODES) if case != "100m" or not m.endswith(EXACT)]


def run(options):
    journal = options.journal
    cases = chosen(options.links, CASES)
    print(f"\npipeline: {setup(options)}; godwit as it is by default; {options.pairs} pairs, limit {options.limit} s",
          flush=True)
    first = journal.next_pair(BENCH)
    for case in cases:
        for pair in range(first, first + options.pairs):
            for mode in modes_of(options, case):
                journal.add(BENCH, case, mode, pair, stock_run(options, LINKS[case], mode), ours=False)
            journal.add(BENCH, case, "godwit", pair, godwit_run(options, LINKS[case]))
    for case in cases:
        table(journal, BENCH, case, [*MODES, "godwit"], "godwit")
        judge(journal, case, [m for m in MODES if not m.endswith(EXACT)], TARGETS[case])
        if any(journal.select(BENCH, case, m) for m in MODES if m.endswith(EXACT)):
            judge(journal, case, list(MODES), TARGETS[case])
        if case in THREADS_TARGETS:
            judge(journal, case, THREADS, THREADS_TARGETS[case])
