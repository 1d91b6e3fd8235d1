# SPDX-License-Identifier: Apache-2.0
"""A guest that writes faster than its link carries: what each policy, each timeout and the operator make of it. Memory is
compared byte by byte after every migration, and nothing holds the guest's threads when it is over."""
import json
import os
import subprocess

import pytest

from gwtest import engine as gw, oracle, places
from gwtest.qemu import MIB

# 32 MiB written over and over at 300 MB/s, on a link of 24 MB/s.
LOAD = "uniform,rate=300M,hot=32M,write=4096"
# What is forced with much left to send takes longer than stop-limit lets it.
ANY = {"stop-limit": 0}
SLOW = {"max-bandwidth": "24M", "compression": "none", "autostart": "off"}


@pytest.fixture
def busy(make_stunt, engine):
    source = make_stunt(memory=64 * MIB, fill=100, mix="0,0,100,0", load=LOAD)
    return source, make_stunt.destination(source)


def unchecked(make_stunt, load):
    """A guest that does not end by itself when its memory arrives wrong."""
    source = make_stunt(memory=64 * MIB, fill=100, mix="0,0,100,0", load=load, options=["--no-hash"])
    return source, make_stunt.destination(source, options=["--no-check"])


def threads_of(guest):
    return [cpu["thread-id"] for cpu in guest.qmp.execute("query-cpus-fast")]


def tracers(guest):
    """Who holds the guest's threads: process ids."""
    found = set()
    for thread in threads_of(guest):
        with open(f"/proc/{guest.pid}/task/{thread}/status", encoding="ascii", errors="replace") as file:
            found |= {int(line.split()[1]) for line in file if line.startswith("TracerPid:")}
    return found - {0}


def complete(source, there, settings, **options):
    with gw.Migration(source, there, settings={**SLOW, **settings}, **options) as migration:
        report = migration.complete(150)
        events = migration.send.events()
    assert oracle.compare_ram(source, there) == {}
    assert not tracers(source)
    return report, events


def percents(events):
    return [e["percent"] for e in events if e["event"] == "throttle"]


def test_rate_ends(busy):
    report, events = complete(*busy, {"throttle-policy": "rate"})
    assert report["throttle"]["policy"] == "rate" and report["throttle"]["max-percent"] >= 80
    assert report["throttle"]["time"] > 0
    assert percents(events)[-1] == 0


@pytest.mark.parametrize("fault", [None, "lose-samples"])
def test_what_a_sample_finds_is_sent(make_stunt, engine, fault):
    """What a scan within a pass finds belongs to the next pass. This guest writes each page once: what is lost then shows,
    and that it does with the fault proves that samples were what found it."""
    source = make_stunt(memory=128 * MIB, fill=5, load="grow,rate=30M,write=4096",
                        options=("--no-hash", "--no-check"))
    there = make_stunt.destination(source)
    # Too short for what is written during pass 1, so that there is a pass with samples behind it.
    settings = {**SLOW, "throttle-policy": "rate", "downtime-limit": 50}
    with gw.Migration(source, there, settings=settings, fault=fault) as migration:
        migration.complete(150)
        decisions = [e for e in migration.send.events() if e["event"] == "converge"]
    assert any(e["dirty-rate"] > 0 and not e["pass-ended"] for e in decisions), "no sample found anything"
    assert (oracle.compare_ram(source, there) != {}) == (fault is not None)


def test_staged_ends(busy):
    """At the latest by the forced switchover that it offers."""
    report, events = complete(*busy, {"throttle-policy": "staged", "completion-timeout": 20, "timeout-action": "force",
                                      **ANY})
    assert report["throttle"]["policy"] == "staged" and report["throttle"]["max-percent"] >= 80
    assert percents(events)[-1] == 0


def test_stepped_ends(busy):
    """Larger steps than by default, for it takes two passes of a second each for one."""
    report, events = complete(*busy, {"throttle-policy": "stepped", "cpu-throttle-initial": 60,
                                      "cpu-throttle-increment": 30})
    stop = next(i for i, e in enumerate(events) if e["event"] == "stage" and e["stage"] == "stop")
    steps = [p for p in percents(events[:stop]) if p]
    assert steps == sorted(steps) and steps[0] == 60
    assert report["throttle"]["max-percent"] == max(steps)


@pytest.mark.parametrize("policy", ["rate", "staged", "stepped"])
def test_its_events_decide_the_same_again(busy, policy, tmp_path):
    """What is decided depends on what is measured alone: a run's --events, put through the function, decide the same."""
    _, events = complete(*busy, {"throttle-policy": policy, "completion-timeout": 10, "timeout-action": "force",
                                 **ANY})
    file = tmp_path / "events"
    file.write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    replay = subprocess.run([os.path.join(places.build(), "tests", "unit", "test_converge_json"), "--events", file],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert replay.returncode == 0, replay.stdout


def test_max_cpu_throttle(busy):
    source, there = busy
    settings = {**SLOW, "throttle-policy": "rate", "max-cpu-throttle": 40, "completion-timeout": 8}
    with gw.Migration(source, there, settings=settings) as migration:
        sent, _ = migration.wait(60)
    assert max(percents(sent.events)) == 40
    assert sent.code == 1 and sent.report["error"]["class"] == "timeout"


def test_a_calm_guest_is_left_alone(make_stunt, engine):
    source = make_stunt(memory=96 * MIB, load="uniform,rate=2M")
    report, events = complete(source, make_stunt.destination(source), {"max-bandwidth": "32M"})
    assert report["throttle"]["max-percent"] == 0 and report["throttle"]["time"] == 0
    assert not percents(events)


def test_none_gives_up_in_time(busy):
    source, there = busy
    with gw.Migration(source, there, settings={**SLOW, "throttle-policy": "none", "completion-timeout": 5}) as migration:
        sent, received = migration.wait(60)
    assert sent.code == 1 and received.code == 1
    assert sent.report["error"]["class"] == "timeout"
    assert "throttle-policy" in sent.report["error"]["desc"] and "timeout-action" in sent.report["error"]["desc"]
    assert not [p for p in percents(sent.events) if p]
    assert source.qmp.status() == "running" and not tracers(source)


def test_no_progress(busy):
    source, there = busy
    settings = {**SLOW, "throttle-policy": "none", "progress-timeout": 5}
    with gw.Migration(source, there, settings=settings) as migration:
        sent, _ = migration.wait(60)
    assert sent.code == 1 and sent.report["error"]["class"] == "timeout"
    assert source.qmp.status() == "running"


def test_a_timeout_may_force_it(busy):
    report, _ = complete(*busy, {"throttle-policy": "none", "completion-timeout": 5, "timeout-action": "force", **ANY})
    assert report["throttle"]["max-percent"] == 0 and report["total-time"] > 5000


def test_the_operator_forces_it(busy):
    source, there = busy
    with gw.Migration(source, there, settings={**SLOW, **ANY, "throttle-policy": "none"}) as migration:
        migration.send.wait_event(event="stage", stage="iterate")
        with migration.send.control() as control:
            control.execute("migrate-force-switchover")
        migration.complete(60)
    assert oracle.compare_ram(source, there) == {}


def test_live_changes(busy):
    """What was "none" becomes "rate" while it runs, and then it ends."""
    source, there = busy
    with gw.Migration(source, there, settings={**SLOW, "throttle-policy": "none"}) as migration:
        migration.send.wait_event(lambda e: e["event"] == "pass" and e["pass"] >= 2)
        with migration.send.control() as control:
            control.execute("migrate-set-parameters", **{"throttle-policy": "rate"})
            assert control.execute("query-migrate-parameters")["throttle-policy"] == "rate"
        report = migration.complete(150)
    assert oracle.compare_ram(source, there) == {}
    assert report["throttle"]["policy"] == "rate" and report["throttle"]["max-percent"] > 0


def test_postcopy_is_not_there_yet(busy):
    source, there = busy
    with gw.Engine("send", "--qmp", source.qmp_path, "--to", "tcp:127.0.0.1:9",
                   settings={"timeout-action": "postcopy"}) as send:
        result = send.wait(20)
    assert result.code == 2 and "abort, force" in result.stderr
    assert there.qmp.execute("query-status")["status"] == "inmigrate"


def test_what_the_guest_did_meanwhile(make_guest, engine):
    """A real guest whose memory is written all the time: it ends, and the guest's own checks find nothing wrong."""
    source = make_guest(load={"mem": 48, "rate": 40000})
    source.wait_ready()
    there = make_guest.destination(source)
    with gw.Migration(source, there, settings={"max-bandwidth": "8M", "compression": "none"}) as migration:
        report = migration.complete(150)
    assert report["throttle"]["max-percent"] > 0
    there.serial.wait_ticks(50)
    assert not tracers(there)


# Hot segments wait. The fifth segment of 2 MiB is hot in its first half and never written in its second one: what is
# lost of that is lost for good.
HOT_LOAD = "uniform,rate=100M,hot=9M,write=4096"
WAIT = {"ram-delay-save-percent": 30}


@pytest.fixture
def skewed(make_stunt, engine):
    source = make_stunt(memory=64 * MIB, fill=100, mix="0,0,100,0", load=HOT_LOAD)
    return source, make_stunt.destination(source)


def passes(events):
    return [(e["pages"], e["deferred"]) for e in events if e["event"] == "pass"]


def test_hot_segments_wait(skewed):
    report, events = complete(*skewed, {"throttle-policy": "rate", **WAIT})
    sent, deferred = passes(events)[0]
    assert deferred >= 512 and sent >= deferred  # at least the fifth segment, and never more than half
    assert report["ram"]["deferred"] == sum(waited for _, waited in passes(events))
    assert passes(events)[-1][1] == 0


@pytest.mark.parametrize("policy", ["none", "stepped", "staged"])
def test_hot_segments_wait_whatever_the_policy(skewed, policy):
    settings = {"throttle-policy": policy, "completion-timeout": 6, "timeout-action": "force", **WAIT, **ANY}
    _, events = complete(*skewed, settings)
    assert passes(events)[0][1] > 0 and passes(events)[-1][1] == 0


def test_without_what_waited_memory_differs(make_stunt, engine):
    """If this finds nothing, the tests above prove nothing."""
    source, there = unchecked(make_stunt, HOT_LOAD)
    with gw.Migration(source, there, settings={**SLOW, **WAIT}, fault="lose-deferred") as migration:
        migration.complete(150)
    assert oracle.compare_ram(source, there) != {}


@pytest.mark.parametrize("settings", [{}, {**WAIT, "ram-segment-size": 0}])
def test_nothing_waits(skewed, settings):
    report, events = complete(*skewed, {"throttle-policy": "rate", **settings})
    assert report["ram"]["deferred"] == 0 and not any(waited for _, waited in passes(events))


def test_large_segments_wait(skewed):
    report, _ = complete(*skewed, {"throttle-policy": "rate", "ram-segment-size": "5M", "ram-delay-save-percent": 50})
    assert report["ram"]["deferred"] > 0


def test_deferral_changes_live(busy):
    """Half of the memory is hot, and nothing holds the guest back. Passes do not become empty, nor do they end."""
    source, there = busy
    settings = {**SLOW, **ANY, "throttle-policy": "none", "ram-delay-save-percent": 0}
    with gw.Migration(source, there, settings=settings) as migration:
        migration.send.wait_event(lambda e: e["event"] == "pass" and e["pass"] >= 2)
        with migration.send.control() as control:
            control.execute("migrate-set-parameters", **{"ram-delay-save-percent": 30})
            migration.send.wait_event(lambda e: e["event"] == "pass" and e["deferred"] > 0)
            control.execute("migrate-set-parameters", **{"ram-delay-save-percent": 0})
            last = max(e["pass"] for e in migration.send.events() if e["event"] == "pass")
            migration.send.wait_event(lambda e: e["event"] == "pass" and e["pass"] > last + 1 and not e["deferred"])
            control.execute("migrate-force-switchover")
        migration.complete(60)
        counts = passes(migration.send.events())
    assert oracle.compare_ram(source, there) == {}
    assert counts[0][1] == 0 and all(sent >= waited for sent, waited in counts)
