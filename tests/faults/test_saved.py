# SPDX-License-Identifier: Apache-2.0
"""device-state=save: QEMU saves its devices without a migration, and looks at nothing when it does. So godwit has to, and
what must not be done is not done: before the guest stops, and while it stands still."""
import json
import os
import signal
import subprocess
import time

import pytest

from gwtest import oracle, places
from gwtest.drip import Drip
from gwtest.peer_destination import Destination
from gwtest.qemu import MIB, Backend
from monitor import Rule
from scene import PATIENCE, UNBOUND, check_waits_on, processes_of, resolve, wait_until, words_of

SAVE = "xen-save-devices-state"

pytestmark = [pytest.mark.parametrize("device_state", ["save"], indirect=True), pytest.mark.usefixtures("device_state")]
both_guests = pytest.mark.parametrize("make", ["make_scene", "make_real"])


def ends(monitor):
    """How often QEMU was asked to save, and to run the guest."""
    return monitor.seen[SAVE], monitor.seen["cont"]


# --- it works, and what it says ---

@both_guests
def test_it_arrives_paused_and_equal(request, make):
    """What is saved says that the guest ran; the destination keeps it paused all the same."""
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    monitor = scene.watch(scene.source)
    migration = scene.migrate(there, {"autostart": "off"}, source_monitor=monitor)
    report = migration.complete(PATIENCE)
    assert report["device-state-way"] == {"way": "save", "why": "it was asked for (device-state=save)"}
    assert [e["way"] for e in migration.send.events() if e["event"] == "device-state"] == ["save"]
    assert there.qmp.status() == "paused" and scene.source.qmp.status() == "paused"
    assert oracle.compare_ram(scene.source, there) == {}
    assert ends(monitor) == (1, 0) and monitor.seen["migrate"] == 0
    assert "migrate-set-capabilities" not in monitor.seen
    there.qmp.execute("cont")
    assert there.qmp.status() == "running"


@both_guests
def test_auto_takes_what_qemu_supports(request, make, shm):
    """Where QEMU's own migration leaves all of the guest's RAM out it is that."""
    scene = request.getfixturevalue(make)(backends=[Backend("ram0", 64 * MIB, f"{shm}/in-a-file")])
    migration = scene.migrate(scene.spare(), {"device-state": "auto"})
    way = migration.complete(PATIENCE)["device-state-way"]
    assert way["way"] == "skip" and "files that QEMU's own migration skips" in way["why"], way


def test_check_tells_it(make_scene):
    """`godwit check`: which way it would go, and what bars the one that is wished for."""
    scene = make_scene()
    receive = scene.receive()
    command = [places.godwit(), "check", "--qmp", scene.source.qmp_path, "--to", f"tcp:127.0.0.1:{receive.port}"]
    fine = subprocess.run([*command, "--json", "--set", "device-state=save"], capture_output=True, text=True, check=False)
    assert fine.returncode == 0 and json.loads(fine.stdout)["device-state-way"]["way"] == "save", fine
    scene.source.qmp.execute("stop")
    barred = subprocess.run([*command, "--set", "device-state=save"], capture_output=True, text=True, check=False)
    assert barred.returncode == 1 and "stops it (source): the guest is paused" in barred.stdout, barred
    scene.source.qmp.execute("cont")


# --- each command is refused ---

# (command, nth[, counted from that command on], stage in which it ends; None: it goes on without)
REFUSED = [
    ("query-commands", 1, "inspect"),
    ("query-target", 1, "inspect"),
    ("human-monitor-command", 6, "inspect"),
    ("stop", 1, "stop"),
    ("query-status", 1, "stop", "stop"),
    ("query-migrate", 1, "device", "stop"),
    ("add-fd", 1, "device"),
    (SAVE, 1, "device"),
    ("query-status", 1, "device", SAVE),
    ("remove-fd", 1, None),
    ("query-fdsets", 1, None),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_refusal(make_scene, case):
    scene = make_scene()
    there = scene.spare()
    rules = [Rule(case[0], case[1], case[3] if len(case) > 3 else None)]
    if case[0] == "query-fdsets":  # asked only when the set was not taken back
        rules.append(Rule("remove-fd", 1))
    monitor = scene.watch(scene.source, *rules)
    migration = scene.migrate(there, {"autostart": "off"}, source_monitor=monitor)
    if case[2] is None:
        migration.complete(PATIENCE)
        assert oracle.compare_ram(scene.source, there) == {}
        return
    error = scene.check_failed(migration)
    assert error["stage"] == case[2] and error["desc"].endswith(f"QEMU refused {case[0]}: the test refuses {case[0]}")
    if case[2] in UNBOUND:
        check_waits_on(migration.receive, case[2], "the source gave up")
    scene.check_runs_on()
    assert scene.source.qmp.execute("query-fdsets") == []
    assert monitor.seen[SAVE] <= 1
    scene.check_retry()


@pytest.mark.parametrize("command", ["stop", "add-fd", SAVE])
def test_no_answer(make_scene, command):
    """It is waited for as long as the guest may stand still, and no longer."""
    scene = make_scene()
    monitor = scene.watch(scene.source, Rule(command, hang=True))
    error = scene.check_failed(scene.migrate(scene.spare(), {"stop-limit": 800}, source_monitor=monitor))
    assert f"QEMU did not answer {command} before the stop limit was over" in error["desc"], error
    scene.check_runs_on()
    scene.check_retry()


def test_saving_takes_too_long(make_scene):
    scene = make_scene(options=("--save-ms", 2000))
    error = scene.check_failed(scene.migrate(scene.spare(), {"stop-limit": 500}))
    assert error["class"] == "timeout" and f"did not answer {SAVE} before the stop limit" in error["desc"], error
    scene.check_runs_on()


def test_the_vmm_dies_of_it(make_scene):
    scene = make_scene(options=("--die", SAVE))
    there = scene.spare()
    migration = scene.migrate(there)
    assert migration.send.wait(PATIENCE).code == 1
    assert "the guest's VMM has ended" in words_of(migration.send)
    assert migration.receive.wait(PATIENCE).code == 1
    assert not there.alive() or there.qmp.status() != "running"


@pytest.mark.parametrize("command", ["query-status", "remove-fd", "query-fdsets"])
def test_a_refusal_while_all_is_put_back(make_scene, command):
    """The guest runs, and nothing is left, at the second try."""
    scene = make_scene()
    monitor = scene.watch(scene.source, Rule("remove-fd", 1))
    migration = scene.migrate(scene.spare(), source_monitor=monitor, fault="hold@hand-over=60000")
    migration.send.wait_event(event="stage", stage="hand-over")
    monitor.rules.append(Rule(command, 1))
    migration.send.signal(signal.SIGINT)
    assert scene.check_failed(migration)["class"] == "cancelled"
    scene.check_runs_on()
    assert scene.source.qmp.execute("query-fdsets") == []
    scene.check_retry()


# --- what bars it, before anything is changed ---

def check_barred(scene, *words):
    migration = scene.migrate(scene.spare())
    error = migration.send.wait(PATIENCE).report["error"]
    assert error["stage"] == "inspect" and error["class"] == "refused", error
    for word in ("device-state=save: ",) + words:
        assert word in error["desc"], error
    check_waits_on(migration.receive, "inspect", "the source gave up")


@pytest.mark.parametrize("command", [SAVE, "add-fd", "remove-fd", "query-fdsets"])
def test_a_qemu_without_the_command(make_scene, command):
    def rewrite(line):
        return line.replace(f'{{"name": "{command}"}}'.encode(), b'{"name": "x-other"}')

    scene = make_scene()
    migration = scene.migrate(scene.spare(), source_monitor=scene.watch(scene.source, rewrite=rewrite))
    assert f"this QEMU has no command {command}" in scene.check_failed(migration)["desc"]
    scene.check_runs_on()


def test_another_target(make_scene):
    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda line: line.replace(b'"x86_64"', b'"aarch64"'))
    assert "this QEMU is for aarch64" in scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))["desc"]
    scene.check_runs_on()


def test_a_qemu_that_does_not_tell_its_blockers(make_scene):
    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda line: line.replace(b'"major": 7', b'"major": 5'))
    error = scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))
    assert "this QEMU is older than 6.0 and does not tell what blocks a migration" in error["desc"], error
    scene.check_runs_on()


@pytest.mark.parametrize("line, why", [
    (b"send-configuration: off", "send-configuration: off"), (b"send-section-footer: off", "send-section-footer: off")])
def test_a_stream_of_another_form(make_scene, line, why):
    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda text: text.replace(b'"return": ""', b'"return": "' + line + b'"'))
    assert why in scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))["desc"]
    scene.check_runs_on()


@pytest.mark.parametrize("option, form", [("send-configuration", "configuration"), ("send-section-footer", "footer")])
def test_a_real_stream_of_another_form(make_real, option, form):
    """QEMU tells by whichever of its commands this version has for that."""
    scene = make_real(extra=("-global", f"migration.{option}=off"))
    check_barred(scene, f"{option}: off")
    scene.check_runs_on()


def test_a_machine_of_before_there_was_a_configuration(make_scene):
    scene = make_scene(options=("--machine", "pc-i440fx-2.3-machine"))
    migration = scene.migrate(scene.spare(options=("--machine", "pc-i440fx-2.3-machine")))
    assert "machine type pc-i440fx-2.3 has no configuration" in scene.check_failed(migration)["desc"]
    scene.check_runs_on()


NVME = ("-blockdev", "driver=null-co,node-name=nv,size=1048576,read-zeroes=on", "-device", "nvme,drive=nv,serial=1")


def test_nvme_ends_old_qemus(make_real):
    """Whatever QEMU would do: it is not asked to. From 11 on it can move one."""
    scene = make_real(extra=NVME)
    migration = scene.migrate(scene.spare())
    if scene.source.qmp.execute("query-version")["qemu"]["major"] >= 11:
        migration.complete(PATIENCE)
        return
    assert scene.check_failed(migration)["class"] == "refused"
    scene.check_runs_on()


def test_nvme_is_seen_by_its_type_too(make_scene):
    scene = make_scene(options=("--extra-device", "nv0:nvme"))
    check_barred(scene, "saving the state of the NVMe controller nv0 would end this QEMU (before 11)")
    scene.check_runs_on()


@both_guests
def test_a_paused_guest(request, make):
    """Its disks would be given up, and only running it would take them back."""
    scene = request.getfixturevalue(make)()
    scene.source.qmp.execute("stop")
    check_barred(scene, "the guest is paused")
    scene.wait_gone()
    assert scene.source.qmp.status() == "paused"
    there = scene.spare()
    scene.migrate(there, {"device-state": "auto"}).complete(PATIENCE)
    assert there.qmp.status() == "paused"


def test_an_older_receiver(make_scene):
    """One that says nothing of the way can only be given what there was before."""
    scene = make_scene()
    with Destination() as peer:
        send = scene.send(peer, settings={"device-state": "save"})
        request = peer.serve("inspect")
        assert request["args"]["way"] == "save"
        peer.answer(request)
        error = scene.check_failed_alone(send)
    assert error["class"] == "refused" and "the receiver is an older godwit" in error["desc"], error
    scene.check_runs_on()


# --- what comes meanwhile ---

def test_a_blocker_that_comes_before_the_stop(make_scene):
    scene = make_scene(options=("--block-after", "query-cpus-fast"))
    there = scene.spare()
    error = scene.check_failed(scene.migrate(there))
    assert error["stage"] == "iterate" and "the stunt does not want to go" in error["desc"], error
    assert there.qmp.status() == "inmigrate"


def test_a_blocker_that_comes_in_the_pause(make_scene):
    """The last look is right before it is saved."""
    scene = make_scene(options=("--block-after", "stop"))
    monitor = scene.watch(scene.source)
    error = scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))
    assert error["stage"] == "device" and "QEMU says by now that this guest cannot be migrated" in error["desc"], error
    assert ends(monitor) == (0, 1)


def test_paused_by_somebody_before_the_stop(make_real):
    """It stays paused, and the destination is of use yet."""
    scene = make_real()
    there = scene.spare()
    monitor = scene.watch(scene.source)
    migration = scene.migrate(there, source_monitor=monitor, fault="hold@stop=1000")
    migration.send.wait_event(event="stage", stage="stop")
    scene.source.qmp.execute("stop")
    error = migration.send.wait(PATIENCE).report["error"]
    assert "the guest was paused meanwhile" in error["desc"], error
    scene.wait_gone()
    assert scene.source.qmp.status() == "paused" and there.qmp.status() == "inmigrate"
    assert ends(monitor) == (0, 0)


def test_paused_by_somebody_as_it_is_stopped(make_scene):
    """`stop` does nothing then, and says so by no word: no event comes of it."""
    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda line: b"\r" if b'"STOP"' in line else line)
    error = scene.migrate(scene.spare(), source_monitor=monitor).send.wait(PATIENCE).report["error"]
    assert "stopped by somebody else in the moment in which it was to be stopped" in error["desc"], error
    scene.wait_gone()
    assert scene.source.qmp.status() == "paused" and ends(monitor) == (0, 0)
    scene.source.qmp.execute("cont")
    scene.check_runs_on()


@pytest.mark.parametrize("stage, saved", [("device", 0), ("hand-over", 1)])
def test_let_run_by_somebody(make_real, stage, saved):
    """Before it is saved, or when all is loaded at the destination: it runs here, so it does not run there."""
    scene = make_real()
    there = scene.spare()
    monitor = scene.watch(scene.source)
    migration = scene.migrate(there, source_monitor=monitor, fault=f"hold@{stage}=1000")
    migration.send.wait_event(event="stage", stage=stage)
    scene.source.qmp.execute("cont")
    error = scene.check_failed(migration)
    assert error["stage"] == stage and "somebody has let the guest run here meanwhile" in error["desc"], error
    assert ends(monitor) == (saved, 0)
    if saved:
        assert there.qmp.status() == "paused"
    scene.check_runs_on()
    scene.check_retry()


def test_let_run_by_somebody_right_as_it_is_saved(make_scene):
    """A QEMU that saves a guest that runs stops it for that, and gives up none of its disks."""
    scene = make_scene()
    monitor = scene.watch(scene.source, Rule("remove-fd", does="cont"))
    error = scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))
    assert error["stage"] == "device" and "somebody has let the guest run here meanwhile" in error["desc"], error
    scene.check_runs_on()


def test_a_disk_fails_when_its_guest_stands_still(make_scene):
    """What comes late is no reason to leave a guest paused that ran, and whose disks only `cont` brings back."""
    event = (b'{"timestamp": {"seconds": 1, "microseconds": 1}, "event": "BLOCK_IO_ERROR", "data": {"device": "d0", '
             b'"operation": "write", "action": "stop", "reason": "No space left on device", "nospace": true}}\r\n')
    told = []

    def rewrite(line):
        if monitor.seen[SAVE] and not told:
            told.append(True)
            return event + line
        return line

    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda line: rewrite(line))
    error = scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))
    assert told and error["stage"] == "device" and "has stopped by itself" in error["desc"], error
    scene.check_runs_on()
    scene.check_retry()


def test_a_disk_that_is_not_given_up(make_scene):
    """A QEMU that says so only when it is asked (10.0 and newer)."""
    def rewrite(line):
        line = line.replace(b'"major": 7', b'"major": 10')
        nodes = b'"return": [{"node-name": "one", "active": false}, {"node-name": "two", "active": true}]'
        return line.replace(b'"return": []', nodes) if monitor.seen[SAVE] else line

    scene = make_scene()
    monitor = scene.watch(scene.source, rewrite=lambda line: rewrite(line))
    error = scene.check_failed(scene.migrate(scene.spare(), source_monitor=monitor))
    assert error["stage"] == "device" and "has not given up the disk node two" in error["desc"], error
    scene.check_runs_on()


def test_a_wire_that_takes_nothing(make_scene, stack):
    """More than all sockets on the way hold, and nobody reads."""
    scene = make_scene(options=("--device-bytes", "64M"))
    there, drips = scene.spare(), []

    def through(port):
        drips.append(Drip(port))
        stack.callback(drips[0].close)
        return drips[0].port
    migration = scene.migrate(there, {"stop-limit": 1000}, fault="hold@device=200", through=through)
    migration.send.wait_event(event="stage", stage="device")
    drips[0].cut()
    error = scene.check_failed(migration)
    assert error["class"] in ("timeout", "link"), error
    scene.monitored = [scene.source.qmp_path]
    migration.receive.kill()
    scene.check_runs_on()


# --- never twice without `cont` in between ---

@both_guests
def test_a_second_attempt(request, make):
    """The first was called off when the state had been saved and loaded: QEMU 7.2 would end if it were saved once more."""
    scene = request.getfixturevalue(make)()
    for stage in ("hand-over", "hand-over"):
        migration = scene.migrate(scene.spare(), fault=f"fail@{stage}")
        assert scene.check_failed(migration)["stage"] == stage
        scene.check_runs_on()
    scene.check_retry()


@both_guests
def test_what_a_killed_engine_saved_is_known(request, make):
    """Neither the guardian is there to put it back: the next engine does, before it saves once more."""
    scene = request.getfixturevalue(make)()
    migration = scene.migrate(scene.spare(), fault="hold@hand-over=60000")
    migration.send.wait_event(event="stage", stage="hand-over")
    found = [pid for pid, name in processes_of(scene.source.qmp_path).items() if name == "godwit guardian"]
    os.kill(found[0], signal.SIGKILL)
    migration.send.kill()
    scene.wait_gone()
    os.unlink(migration.send.control_path)
    assert scene.source.qmp.status() == "paused"
    monitor = scene.watch(scene.source)
    there = scene.spare()
    second = scene.migrate(there, {"autostart": "off"}, source_monitor=monitor)
    second.complete(PATIENCE)
    assert "an earlier godwit and its guardian died here" in words_of(second.send)
    assert ends(monitor) == (1, 1)
    assert oracle.compare_ram(scene.source, there) == {}


def test_after_the_hand_over_it_is_never_let_run(make_real):
    scene = make_real()
    there = scene.spare()
    scene.migrate(there, {"autostart": "off"}).complete(PATIENCE)
    refused = resolve(scene.source)
    assert refused.returncode == 1 and "was handed over and may run at the destination" in refused.stderr, refused
    assert scene.source.qmp.status() == "paused"
    there.stop()
    assert resolve(scene.source, "--take-back").stdout == "the guest runs\n"
    scene.check_runs_on()


# --- each moment between two commands ---

@pytest.mark.parametrize("command", ["stop", "query-migrate", "add-fd", SAVE, "remove-fd"])
def test_send_is_killed_at(make_scene, command):
    """QEMU gets the command, and the engine dies before it hears the answer."""
    scene = make_scene()
    monitor = scene.watch(scene.source)
    migration = scene.migrate(scene.spare(), {"stop-limit": 0}, source_monitor=monitor, fault="hold@stop=500")
    migration.send.wait_event(event="stage", stage="stop")
    monitor.freeze(at=command)
    wait_until(lambda: not monitor._thawed.is_set(), "it has come so far")
    time.sleep(0.2)
    migration.send.signal(signal.SIGKILL)
    monitor.thaw()
    assert migration.send.wait(PATIENCE).code == -signal.SIGKILL
    scene.check_runs_on()
    assert scene.source.qmp.execute("query-fdsets") == []
    scene.check_retry()
