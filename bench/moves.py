# SPDX-License-Identifier: Apache-2.0
"""Where the pause goes: many moves of one real guest in a row, and the distribution of each part of
its switchover. GODWIT_QEMU names the QEMU.

On a machine that is a guest itself a wake-up takes as long as its host lets it, milliseconds where the host gives the
CPU to others: with --calm the moves during which it took more than that are counted, and shown apart."""
import shutil
import statistics
import tempfile

from gwtest import engine, places, qemu, stock
from results import cpu_times

BENCH = "moves"
MEMORY = 256 * qemu.MIB
LOAD = {"mem": 64, "rate": 2000}
PARTS = ("stop", "final", "device", "load", "run")
SETTLE = 5  # ticks of the guest between two moves
LOAD_LIMIT = 10  # ms that loading the device state may take


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def moves(options, directory):
    """Reports of `options.pairs` moves over loopback. The guest goes on from where it was, or it fails."""
    guest = qemu.Guest(directory, "guest0", memory=stock.memory(MEMORY), load=LOAD)
    try:
        guest.wait_ready()
        for number in range(1, options.pairs + 1):
            there = guest.destination(name=f"guest{number}")
            try:
                stolen, wanted = cpu_times()
                with engine.Migration(guest, there) as migration:
                    report = migration.complete(options.limit)
                now_stolen, now_wanted = cpu_times()
                report["stolen"] = 100 * (now_stolen - stolen) / max(1, now_wanted - wanted)
                yield report
                there.serial.wait_ticks(SETTLE)
            finally:
                guest.remove()
                guest = there
    finally:
        guest.remove()


def show(reports, which):
    print(f"\n{len(reports)} moves, {which}")
    if not reports:
        return
    print(f"{'ms':10}{'median':>10}{'p90':>10}{'p99':>10}{'max':>10}")
    for name in ("downtime", *PARTS):
        values = [r["downtime"] if name == "downtime" else r["switchover"][name] for r in reports]
        print(f"{name:10}{statistics.median(values):>10.2f}{quantile(values, 0.9):>10.2f}{quantile(values, 0.99):>10.2f}"
              f"{max(values):>10.2f}")
    quick = sum(r["switchover"]["load"] <= LOAD_LIMIT for r in reports)
    print(f"load within {LOAD_LIMIT} ms in {quick} of {len(reports)}", flush=True)


def run(options):
    print(f"\nmoves: {options.pairs} moves of a guest of {MEMORY // qemu.MIB} MiB, QEMU "
          f"{'.'.join(map(str, stock.version()))}, accelerator {places.accelerator()}", flush=True)
    directory = tempfile.mkdtemp(prefix="godwit-bench-", dir="/dev/shm")
    journal, reports = options.journal, []
    first = journal.next_pair(BENCH)
    try:
        for report in moves(options, directory):
            reports.append(report)
            journal.add(BENCH, "moves", "godwit", first + len(reports) - 1,
                        {"total": report["total-time"] / 1000, "downtime": report["downtime"],
                         "stolen": report["stolen"], "switchover": report["switchover"]})
    finally:
        shutil.rmtree(directory)
    show(reports, "all")
    if options.calm is not None:
        show([r for r in reports if r["stolen"] <= options.calm], f"the host took at most {options.calm:g} %")
