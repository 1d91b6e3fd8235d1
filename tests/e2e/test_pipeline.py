# SPDX-License-Identifier: Apache-2.0
"""The RAM pipeline as a whole: every codec, any number of threads and channels, changes instead of pages, and the means
that it may use. Memory is compared byte by byte after every migration."""
import contextlib
import itertools
import os
import random
import re
import subprocess

import pytest

from gwtest import engine as gw, oracle, places
from gwtest.card import Card
from gwtest.qemu import MIB, Backend

# What one migration may be asked for; a sample of all combinations is run, the same every time.
CODECS = [("auto", {}), ("none", {}),
          ("lz4", {"lz4-acceleration": 1}), ("lz4", {"lz4-acceleration": 8}),
          ("zstd", {"zstd-level": -50}), ("zstd", {"zstd-level": 1}), ("zstd", {"zstd-level": 9}),
          ("deflate", {"deflate-level": 0}), ("deflate", {"deflate-level": 3})]
SAMPLES = 27


def samples():
    """Each codec at least twice, each value of the rest often."""
    dice = random.Random(20)
    for i in range(SAMPLES):
        codec, level = CODECS[i % len(CODECS)]
        yield {"compression": codec, **level, "channels": dice.choice([1, 4]),
               "compress-threads": dice.choice([1, 4]), "decompress-threads": dice.choice([1, 4]),
               "pages-per-batch": dice.choice([1, 7, 128, 1024]), "huge": i % 4 == 0}


def sample_id(s):
    return "-".join(str(value) for value in s.values())


def backend(directory, name, size):
    return [Backend("ram0", size, os.path.join(directory, name))]


class Case:
    """A stunt and its destination, and what a migration of one to the other said."""

    number = itertools.count()

    def __init__(self, make_stunt, directory, memory=64 * MIB, **options):
        name = f"stunt{next(self.number)}"
        self.source = make_stunt(name=name, backends=backend(directory, name, memory), **options)
        self.there = make_stunt.destination(self.source, backends=backend(directory, name + "-dst", memory))

    def remove(self):
        self.source.remove()
        self.there.remove()

    def start(self, settings=None, **options):
        return gw.Migration(self.source, self.there, settings={"autostart": "off", **(settings or {})}, **options)

    def compare(self):
        assert oracle.compare_ram(self.source, self.there) == {}

    def move(self, settings=None, passes=0, counted=None, **options):
        """With `passes` it goes on that long before it may stop; with `counted`, until so many pages were counted under
        that name. The source's report."""
        settings = {**({"downtime-limit": 0} if passes else {}), **(settings or {})}
        with self.start(settings, **options) as migration:
            if passes:
                wait_passes(migration, passes)
                if counted:
                    wait_counted(migration, *counted)
                set_parameters(migration, **{"downtime-limit": 100000})
            report = migration.complete()
            self.events = migration.send.events()
        self.compare()
        return report


def wait_passes(migration, count):
    migration.send.wait_event(lambda e: e["event"] == "pass" and e["pass"] >= count)


def wait_counted(migration, name, least):
    with migration.send.control() as control:
        control.wait_until(lambda qmp: qmp.execute("query-migrate")["ram"][name] >= least, 60)


def set_parameters(migration, **values):
    with migration.send.control() as control:
        control.execute("migrate-set-parameters", **values)


def pass_bytes(events):
    """Bytes on the wire in each pass but the first, and the last, in which there is device state too."""
    sums = [e["transferred"] for e in events if e["event"] == "pass"]
    return [after - before for before, after in zip(sums, sums[1:-1])]


@pytest.mark.parametrize("s", list(samples()), ids=sample_id)
def test_equal(make_stunt, hugepages, shm, engine, s):
    """Under load, over a few passes."""
    settings = {name: value for name, value in s.items() if name != "huge"}
    receive = {"decompress-threads": settings.pop("decompress-threads")}
    memory = 32 * MIB
    directory = hugepages(2 * memory).directory if s["huge"] else shm
    case = Case(make_stunt, directory, memory, fill=80, mix="40,20,20,20", load="uniform,rate=20M", seed=7)
    report = case.move(settings, passes=4, receive_settings=receive)
    codec = s["compression"]
    if codec != "auto" and s["pages-per-batch"] > 1:
        assert set(report["codecs"]) <= {codec, "none"} and codec in report["codecs"]
    counted = sum(c["in"] for c in report["codecs"].values())
    assert counted == report["ram"]["normal"] * 4096


def test_rewrites_are_not_sent(make_stunt, shm, engine):
    """A guest that writes what is there already."""
    case = Case(make_stunt, shm, fill=100, load="uniform,rate=100M,hot=8M,write=4096,same=1")
    # The first time a page is written its content is new; from then on it is not.
    case.source.qmp.wait_until(lambda qmp: qmp.execute("stunt-stats")["stamps"] > 20 * 2048, 60)
    report = case.move(passes=6, counted=("unchanged", 3000))
    assert sum(pass_bytes(case.events)) < report["ram"]["unchanged"] * 4096 // 100


def test_small_writes_are_sent_as_changes(make_stunt, shm, engine):
    case = Case(make_stunt, shm, fill=100, mix="50,50,0,0", load="uniform,rate=40M,hot=16M,write=8")
    report = case.move({"xbzrle-cache-size": 64 * MIB, "compression": "none"}, passes=4, counted=("delta", 1000))
    ram = report["ram"]
    assert 0 < ram["delta-bytes"] < ram["delta"] * 100
    assert report["plan"]["delta-cache"] == 64 * MIB


@pytest.mark.parametrize("setting, counter", [("page-digests=off", "unchanged"), ("xbzrle-cache-size=0", "delta"),
                                              ("zero-page-detection=off", "duplicate")])
def test_each_part_can_be_off(make_stunt, shm, engine, setting, counter):
    name, value = setting.split("=")
    for load in ("uniform,rate=40M,write=8,hot=16M", "uniform,rate=40M,write=4096,same=1,hot=16M"):
        case = Case(make_stunt, shm, fill=60, mix="40,20,10,30", load=load)
        assert case.move({name: value}, passes=4)["ram"][counter] == 0
        case.remove()


def godwit_set(migration, *settings):
    return subprocess.run([places.godwit(), "set", "--control", migration.send.control_path, *settings], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_settings_change_while_it_runs(make_stunt, shm, engine):
    """Codec, levels and the cache, with `godwit set`, pass after pass."""
    changes = [["compression=lz4", "lz4-acceleration=20"], ["compression=zstd", "zstd-level=-5"],
               ["xbzrle-cache-size=1M"], ["compression=deflate", "deflate-level=2", "xbzrle-cache-size=0"],
               ["zero-page-detection=off", "bypass-compression=off"], ["xbzrle-cache-size=32M", "zstd-level=5"],
               ["compression=none", "zero-page-detection=on", "bypass-compression=auto"], ["compression=auto"]]
    case = Case(make_stunt, shm, fill=80, mix="40,20,20,20", load="uniform,rate=30M")
    with case.start({"downtime-limit": 0, "compress-threads": 2}) as migration:
        for i, settings in enumerate(changes):
            wait_passes(migration, 2 * i + 1)
            done = godwit_set(migration, *settings)
            assert done.returncode == 0, done.stderr
        refused = godwit_set(migration, "page-digests=off")
        assert refused.returncode != 0 and "page-digests cannot be changed" in refused.stderr
        wait_passes(migration, 2 * len(changes) + 2)
        set_parameters(migration, **{"downtime-limit": 100000})
        report = migration.complete()
    case.compare()
    assert {"lz4", "zstd", "deflate", "none"} <= set(report["codecs"])
    assert report["ram"]["delta"] > 0


def test_a_write_in_a_huge_page_is_not_the_huge_page(make_stunt, hugepages, engine):
    """The tracker sees 2 MiB written; what is sent is what changed in them."""
    memory = 128 * MIB
    case = Case(make_stunt, hugepages(2 * memory).directory, memory, fill=100, mix="50,30,20,0",
                load="uniform,rate=1M,write=8")
    case.move({"compression": "none", "xbzrle-cache-size": 0}, passes=6)
    passes = [e for e in case.events if e["event"] == "pass"]
    dirtied = sum(e["pages"] for e in passes[1:-1]) * 4096
    sent = sum(pass_bytes(case.events))
    assert dirtied > 16 * MIB
    print(f"{sent} bytes for {dirtied >> 20} MiB dirtied: {100 * sent / dirtied:.2f} %")
    assert sent <= dirtied // 100


def threads_of(pid):
    """{thread id: text of /proc/PID/task/TID/status}"""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as file:
                found[tid] = file.read()
    return found


def test_cpu_affinity_holds_for_every_thread(make_stunt, shm, engine):
    case = Case(make_stunt, shm, fill=50, load="uniform,rate=20M")
    cpu = str(max(os.sched_getaffinity(0)))
    with case.start({"downtime-limit": 0, "cpu-affinity": cpu, "compress-threads": 3}) as migration:
        wait_passes(migration, 2)
        texts = threads_of(migration.send.pid)
        sending = [t for t in texts.values() if re.search(r"^Name:\s+send \d", t, re.M)]
        assert len(sending) >= 3
        for text in texts.values():
            assert re.search(r"^Cpus_allowed_list:\s+(\S+)$", text, re.M).group(1) == cpu
        receiving = threads_of(migration.receive.pid).values()
        assert cpu == "0" or any(f"Cpus_allowed_list:\t{cpu}\n" not in text for text in receiving)
        set_parameters(migration, **{"downtime-limit": 100000})
        migration.complete()
    case.compare()


@pytest.mark.parametrize("setting, text", [
    ("cpu-affinity=8000", "CPU 8000 does not exist on this host or is offline"),
    ("cpu-affinity=9-3", "cpu-affinity"), ("cpu-affinity=x", "cpu-affinity"),
    ("cpu-budget=0", "1..100000"), ("cpu-budget=100001", "1..100000"), ("cpu-budget=much", "cpu-budget"),
    ("compress-threads=0", "1..64"), ("compress-threads=65", "1..64"), ("zstd-level=20", "-50..19"),
    ("deflate-level=4", "0..3"), ("memory-budget=-1", "memory-budget"), ("compression=rot13", "lz4")])
def test_what_cannot_be_is_refused(make_stunt, shm, engine, setting, text):
    """With the range, and the guest is not touched."""
    case = Case(make_stunt, shm, memory=8 * MIB, load=None)
    name, value = setting.split("=")
    with gw.Engine("send", "--qmp", case.source.qmp_path, "--to", "tcp:127.0.0.1:1",
                   settings={name: value}) as send:
        result = send.wait()
    assert result.code == 2 and text in result.stderr, result
    assert case.source.qmp.status() == "running"


def test_cpu_budget_limits_threads_and_time(make_stunt, shm, engine):
    """Whatever the number of threads that is asked for, a budget of one CPU has one of them gather."""
    case = Case(make_stunt, shm, fill=80, load="uniform,rate=20M")
    report = case.move({"cpu-budget": 100, "compress-threads": 8}, passes=3)
    assert report["plan"]["compress-threads"] == 1 and report["plan"]["cpu-share"] <= 1.0


def test_the_plan_is_told(make_stunt, shm, engine):
    case = Case(make_stunt, shm, fill=80, load="uniform,rate=20M")
    report = case.move({}, passes=3)
    plans = [e for e in case.events if e["event"] == "plan"]
    assert plans and plans[0]["reason"] == "first plan"
    for plan in plans:
        assert plan["compress-threads"] >= 1 and plan["cpu-share"] > 0 and plan["delta-cache"] >= 0
        assert plan["digests"] % 16 == 0 and plan["reason"]
    assert plans[0]["digests"] == 64 * MIB // 4096 * 16  # a table for the whole guest
    last = {name: plans[-1][name] for name in report["plan"]}
    assert last == pytest.approx(report["plan"])
    assert {"unchanged", "delta", "delta-bytes", "duplicate", "normal"} <= set(report["ram"])
    for codec in report["codecs"].values():
        assert codec["batches"] > 0 and codec["out"] <= codec["in"]


def peak(make_stunt, shm, settings):
    case = Case(make_stunt, shm, memory=512 * MIB, fill=90, mix="50,30,20,0", load="uniform,rate=40M,write=8,hot=64M")
    report = case.move(settings, passes=3)
    case.remove()
    return report["max-rss"] * 1024, report["plan"]


def test_memory_budget_bounds_what_is_taken(make_stunt, shm, engine):
    """Table, cache and buffers together. What the program itself needs is what it takes with the least of a budget."""
    least, _ = peak(make_stunt, shm, {"memory-budget": "1M", "compress-threads": 1, "channels": 1})
    budget = 24 * MIB
    most, plan = peak(make_stunt, shm, {"memory-budget": budget, "compress-threads": 1, "channels": 1})
    assert plan["delta-cache"] + plan["digests"] <= budget
    assert most <= least + budget


def test_a_slow_drain_is_no_flood(make_stunt, shm, engine):
    """What the destination says of itself meanwhile waits: nobody takes it while the VMM drains a slow disk."""
    case = Case(make_stunt, shm, memory=32 * MIB, load=None, options=["--drain-ms", 6000])
    case.move({"downtime-limit": 30000})


def test_many_spoiled_batches_are_no_flood(make_stunt, shm, engine):
    """A device that spoils all that it has in hand, while nobody takes what the destination says of it."""
    case = Case(make_stunt, shm, memory=32 * MIB, fill=90, load="uniform,rate=40M", options=["--drain-ms", 500])
    with Card(shm, fault="garbage@300:100000") as card:
        report = case.move({"compression": "qat", "accel-devices": card.device, "accel-instances": 8,
                            "pages-per-batch": 16, "channels": 4, "downtime-limit": 2000})
    assert report["ram"]["resent"] > 0
