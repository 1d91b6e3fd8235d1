# SPDX-License-Identifier: Apache-2.0
"""The guest stands still and something hangs. Whatever it is, the guest runs again at the source when stop-limit is over.

How long it stood still is measured from outside. What each case came to is printed as a table at the end."""
import os
import signal
import time

import pytest

from gwtest.drip import Drip
from gwtest.standstill import Standstill
from monitor import Rule
from scene import PATIENCE, wait_until

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
    out = request.config.pluginmanager.getplugin("terminalreporter")
    out.write_line("")
    for kind, hang, stage, stood, end in rows:
        out.write_line(f"{kind:6} {hang:18} {stage:9} stood still {stood:6.3f} s, {end}")


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
