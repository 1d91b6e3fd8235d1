# SPDX-License-Identifier: Apache-2.0
"""The guest stands still and something hangs. Whatever it is, the guest runs again at the source when stop-limit is over,
or, once it was handed over, both sides have said by then how it is.

How long it took is measured from outside. What each case came to is printed as a table at the end."""
import contextlib
import os
import signal
import time

import pytest

from gwtest.drip import Drip
from gwtest.standstill import Standstill
from monitor import Rule
from scene import BOTH_WAYS, PATIENCE, processes_of, resolve, wait_until, words_of

pytestmark = pytest.mark.alone  # what is measured is how long a guest stands still

LIMIT = 1500  # ms
MARGIN = 1.0  # seconds that may pass behind it
STAGES = ["stop", "final", "device", "load"]
HOLD = 400  # ms from the stage's beginning until it is sure to hang
DEVICE_STATE = ("--device-bytes", "24M")  # more than the sockets on the way hold


class Wire:
    """Between the two sides; none when the case does not need one."""

    def __init__(self, stack):
        self.drip, self._stack = None, stack

    def through(self, port):
        self.drip = Drip(port)
        self._stack.callback(self.drip.close)
        return self.drip.port


def freeze(pid, stack):
    def thaw():
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    os.kill(pid, signal.SIGSTOP)
    stack.callback(thaw)


HANGS = {
    "destination QEMU": lambda there, migration, wire, stack: freeze(there.pid, stack),
    "receive": lambda there, migration, wire, stack: freeze(migration.receive.pid, stack),
    "wire": lambda there, migration, wire, stack: wire.drip.cut(),
    "a byte every 4 s": lambda there, migration, wire, stack: wire.drip.drip(4),
}


@pytest.fixture(scope="module")
def table(request):
    """table(name of the case, stage, seconds of standing still, how it ended)."""
    rows = []
    yield lambda *row: rows.append(row)
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        out = plugins.getplugin("terminalreporter")
        out.write_line("")
        for kind, hang, stage, stood, end in rows:
            out.write_line(f"{kind:6} {hang:18} {stage:9} {stood:6.3f} s, {end}")


def begin(scene, there, stage, stack, monitor=None, settings=None, **options):
    """A migration that is held at the stage, with a wire that can go bad; and who looks at the guest."""
    wire = Wire(stack)
    if stage == "load":
        # It has loaded in a moment: nobody hears of it.
        options["there_monitor"] = scene.watch(there, Rule("query-migrate", nth=0, after="migrate-incoming", hang=True))
    migration = scene.migrate(there, {"stop-limit": LIMIT, **(settings or {})}, fault=f"hold@{stage}={HOLD}",
                              through=wire.through, source_monitor=monitor, **options)
    eyes = Standstill(scene.source)
    stack.callback(eyes.stop)
    if stage == "load":
        migration.send.wait_event(event="saved", timeout=PATIENCE)
    else:
        migration.send.wait_event(event="stage", stage=stage, timeout=PATIENCE)
    return migration, wire, eyes


def make(request, kind, stage):
    if kind == "real":
        return request.getfixturevalue("make_real")()
    return request.getfixturevalue("make_scene")(options=DEVICE_STATE)


@BOTH_WAYS
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("hang", list(HANGS))
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["stunt", "real"])
def test_it_runs_again(request, stack, table, kind, stage, hang):
    scene = make(request, kind, stage)
    there = scene.spare()
    migration, wire, eyes = begin(scene, there, stage, stack)
    HANGS[hang](there, migration, wire, stack)
    if stage == "stop" and kind == "real" or stage == "stop" and hang == "destination QEMU":
        # Before the guest has stopped nothing hurries: it runs. Nobody waits here for what gives up after half a minute.
        time.sleep(LIMIT / 1000 + MARGIN)
        if migration.send.alive():
            migration.send.signal(signal.SIGTERM)
    sent = migration.send.wait(PATIENCE)
    wait_until(lambda: eyes.looks()[-1][1], "the guest runs")
    stood = eyes.longest()
    table(kind, hang, stage, stood, f"exit {sent.code}, {sent.report['error']['class']}")
    assert sent.code == 1, sent
    assert stood < LIMIT / 1000 + MARGIN
    eyes.stop()
    migration.receive.kill()  # frozen, or at a monitor that hangs; its guardian waits for that one
    scene.monitored = [scene.source.qmp_path]
    scene.check_runs_on()


SILENCE = {"real": 10, "stunt": 4}  # seconds


@BOTH_WAYS
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["stunt", "real"])
def test_it_runs_again_as_soon_as_its_monitor_answers(request, stack, table, kind, stage):
    """Nobody can let a guest run whose VMM hears nothing. By the engine, or by its guardian when it has given up."""
    scene = make(request, kind, stage)
    monitor = scene.watch(scene.source)
    migration, _, eyes = begin(scene, scene.spare(), stage, stack, monitor)
    stops = "stop" if scene.device_state == "save" else "migrate"
    monitor.freeze(at=stops if stage == "stop" else None)  # before that the guest runs
    wait_until(lambda: not eyes.looks()[-1][1], "the guest stands still")
    time.sleep(SILENCE[kind])
    thawed = time.time()
    monitor.thaw()
    wait_until(lambda: eyes.looks()[-1][1], "the guest runs")
    ran = max((at for (_, before), (at, after) in zip(eyes.looks(), eyes.looks()[1:]) if after and not before),
              default=thawed)
    sent = migration.send.wait(PATIENCE)
    table(kind, "source's monitor", stage, ran - thawed, f"exit {sent.code}, {sent.report['error']['class']}")
    assert sent.code in (1, 3), sent
    assert ran - thawed < MARGIN
    eyes.stop()
    migration.receive.kill()
    scene.monitored = [scene.source.qmp_path]
    scene.wait_gone()
    scene.check_runs_on()


DOUBT = "it is not known whether it runs here"


def running(*guests):
    return [guest for guest in guests if guest.alive() and guest.qmp.status() == "running"]


@BOTH_WAYS
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("heal", ["run there", "take back"])
@pytest.mark.parametrize("hang", list(HANGS))
@pytest.mark.parametrize("kind", ["stunt", "real"])
def test_after_the_hand_over(request, stack, table, kind, hang, heal):
    """One copy runs, or each side says that it does not know; and both ways out of that lead to one that runs."""
    scene = make(request, kind, "run")
    there = scene.spare()
    with contextlib.ExitStack() as frozen:
        migration, wire, eyes = begin(scene, there, "run", stack)
        HANGS[hang](there, migration, wire, frozen)
        sent, sent_at = migration.send.wait(PATIENCE), eyes.longest()
        wait_until(lambda: not migration.receive.alive() or DOUBT in words_of(migration.receive), "it says how it is")
        received_at = eyes.longest()
        received = migration.receive.wait(PATIENCE)
        eyes.stop()
    table(kind, hang, "run", sent_at, f"exit {sent.code}; there {received_at:.3f} s, exit {received.code}")
    scene.wait_gone()
    wait_until(lambda: not processes_of(there.qmp_path), "the destination's guardian is gone")
    if sent.code == 0:
        assert running(scene.source, there) == [there]
        return
    assert sent_at < LIMIT / 1000 + MARGIN and received_at < LIMIT / 1000 + MARGIN
    assert sent.code == 3 and running(scene.source, there) in ([], [there])
    check_it_is_told(there, received, words_of(migration.receive))
    if heal == "run there" or running(there):
        assert resolve(there, "--run").stdout == "the guest runs\n"
        assert running(scene.source, there) == [there]
        assert resolve(scene.source).returncode == 1  # says to look there
    else:
        there.stop()
        assert resolve(scene.source, "--take-back").stdout == "the guest runs\n"
        scene.check_runs_on()


def check_it_is_told(there, received, words):
    """By `receive`, or by the guardian of one that hung. A `cont` that hung may be done by now."""
    if received.code == 3:
        assert received.report["status"] == "in-doubt", received
    elif running(there):
        assert received.code == 0 or "the guest was handed over and runs here" in words, words
    else:
        assert "the guest is complete and stays paused here" in words and "'godwit resolve' says more" in words, words
