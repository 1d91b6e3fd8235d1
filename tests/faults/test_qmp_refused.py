# SPDX-License-Identifier: Apache-2.0
"""QEMU refuses, in turn, every QMP command that `send` and `receive` give it, or does not answer, or dies of it.

SEND and RECEIVE list the commands in the order of their first use and how each refusal ends; the first test holds them
against what is really sent. How a refusal ends:

    start      before godwit does anything
    failed     the migration ends, the guest runs on at the source
    completed  it goes on without
    never      after hand-over: the destination says that it never runs the guest, and it runs on at the source
"""
import signal

import pytest

from gwtest import engine as gw, oracle
from monitor import Rule
from scene import BY_MIGRATE, PATIENCE, UNBOUND, check_waits_on, processes_of, wait_until, words_of

# (command, nth, how it ends[, counted from that command on]): what is polled is counted from a fixed point.
SEND = [
    ("qmp_capabilities", 1, "start"),
    ("query-status", 1, "failed"),  # what to say later
    ("query-status", 2, "failed"),  # may it be migrated
    ("query-status", 3, "failed"),  # does it run
    ("query-status", 4, "failed"),  # does it still, as something is changed
    ("query-status", 5, "failed"),  # and as it is stopped
    ("query-status", 1, "completed", "migrate-continue"),  # a message boundary: any answer will do
    ("query-migrate", 1, "failed"),
    ("query-migrate", 2, "failed"),
    ("query-migrate", 1, "failed", "migrate"),
    ("query-migrate", 1, "failed", "migrate-continue"),
    *[("qom-list", n, "failed") for n in (*range(1, 9), 14, 15, 17)],
    ("query-jobs", 1, "failed"),
    ("query-jobs", 2, "failed"),  # once more before the stop
    ("query-dump", 1, "failed"),
    ("query-dump", 2, "failed"),
    *[("query-block", n, "failed") for n in range(1, 6)],  # bitmaps; images; both once more; images in the pause
    ("query-kvm", 1, "failed"),
    ("query-kvm", 2, "failed"),
    ("query-memory-devices", 1, "failed"),
    ("query-memory-devices", 2, "failed"),
    ("human-monitor-command", 1, "failed"),  # network back ends
    ("human-monitor-command", 2, "completed"),  # how much RAM is QEMU's own
    ("human-monitor-command", 3, "failed"),  # network back ends, before the stop
    ("qom-get", 1, "failed"),  # share
    ("qom-get", 2, "failed"),  # size
    ("qom-get", 3, "failed"),  # mem-path
    ("qom-get", 4, "completed"),  # offset: not every QEMU has it
    ("qom-get", 5, "failed"),  # machine type
    ("qom-get", 6, "completed"),  # CPU type: not every QEMU has it
    ("qom-get", 7, "completed"),  # CPU features: likewise
    ("qom-get", 25, "completed"),  # the last of the board's properties
    ("query-memory-size-summary", 1, "failed"),
    ("query-cpus-fast", 1, "failed"),
    ("query-cpus-fast", 2, "completed"),  # the threads to hold back: without them none is
    ("query-migrate-capabilities", 1, "failed"),
    ("query-migrate-capabilities", 2, "completed"),
    ("migrate-set-capabilities", 1, "failed"),
    ("migrate-set-capabilities", 2, "completed"),
    ("query-migrate-parameters", 1, "failed"),
    ("query-migrate-parameters", 2, "completed"),
    ("migrate-set-parameters", 1, "failed"),
    ("migrate-set-parameters", 2, "completed"),
    ("transaction", 1, "failed"),
    ("getfd", 1, "failed"),
    ("migrate", 1, "failed"),
    ("migrate-continue", 1, "failed"),
    ("closefd", 1, "completed"),
]
# Only of a QEMU that has RAM of its own, which ends as test_own_ram.py says.
SEND_OWN_RAM = {"query-target"}
# Only when something has gone wrong.
SEND_UNDO = ["query-status", "query-migrate", "migrate_cancel", "closefd", "query-migrate-parameters",
             "migrate-set-parameters", "query-migrate-capabilities", "migrate-set-capabilities"]
RECEIVE = [
    ("qmp_capabilities", 1, "start"),
    ("query-status", 1, "start"),
    ("query-status", 1, "failed", "migrate-incoming"),
    ("query-status", 1, "completed", "cont"),
    ("query-migrate", 1, "start"),
    ("query-migrate", 1, "failed", "migrate-incoming"),
    *[("qom-list", n, "start") for n in range(1, 6)],
    ("qom-list", 6, "failed"),
    ("qom-list", 7, "failed"),
    ("human-monitor-command", 1, "start"),
    ("human-monitor-command", 2, "completed"),
    *[("qom-get", n, "start") for n in range(1, 4)],
    ("qom-get", 4, "completed"),
    ("qom-get", 5, "failed"),
    ("qom-get", 6, "completed"),
    ("qom-get", 25, "completed"),
    ("query-kvm", 1, "failed"),
    ("query-kvm", 2, "failed"),
    ("query-memory-devices", 1, "start"),
    ("query-memory-devices", 2, "failed"),
    ("query-block", 1, "failed"),
    ("query-memory-size-summary", 1, "start"),
    ("query-cpus-fast", 1, "failed"),
    ("query-migrate-capabilities", 1, "failed"),
    ("query-migrate-capabilities", 2, "completed"),
    ("migrate-set-capabilities", 1, "failed"),
    ("migrate-set-capabilities", 2, "completed"),
    ("query-migrate-parameters", 1, "failed"),
    ("query-migrate-parameters", 2, "completed"),
    ("getfd", 1, "failed"),
    ("migrate-incoming", 1, "failed"),
    ("cont", 1, "completed"),  # it is tried again
    ("cont", 0, "never"),
    ("announce-self", 1, "completed"),
]
# As often as it takes, once in every pass, or whenever a stop comes near.
OFTEN = {"query-status", "query-migrate", "transaction", "qom-list", "human-monitor-command", "query-jobs", "query-dump",
         "query-block"}


def rule_of(case):
    return Rule(case[0], case[1], case[3] if len(case) > 3 else None)


def name_of(case):
    return "-".join(map(str, case))


def refusal_of(case):
    return f"QEMU refused {case[0]}: the test refuses {case[0]}"


def largest(cases):
    found = {}
    for command, nth, *_ in cases:
        found[command] = max(nth, found.get(command, 0))
    return found


@BY_MIGRATE
@pytest.mark.usefixtures("device_state")
@pytest.mark.parametrize("make", ["make_scene", "make_real"])
def test_the_lists_are_complete(request, make):
    scene = request.getfixturevalue(make)()
    there = scene.spare()
    one, two = scene.watch(scene.source), scene.watch(there)
    scene.migrate(there, source_monitor=one, there_monitor=two).complete(PATIENCE)
    for seen, cases in ((one.seen, SEND), (two.seen, RECEIVE)):
        listed = largest(cases)
        own = SEND_OWN_RAM if make == "make_real" and cases is SEND else set()
        assert set(seen) == set(listed) | own
        for command, count in seen.items():
            assert command in OFTEN | own or count == listed[command], command
    # And those of a migration that is called off.
    there = scene.spare()
    scene.source.qmp.execute("cont")
    one = scene.watch(scene.source)
    migration = scene.migrate(there, source_monitor=one, fault="hold@final=60000")
    migration.send.wait_event(event="stage", stage="final")
    one.seen.clear()
    migration.send.signal(signal.SIGINT)
    scene.check_failed(migration)
    assert set(one.seen) == set(SEND_UNDO)


def check_start(args, case):
    with gw.Engine(*args) as engine:
        result = engine.wait(PATIENCE)
    assert result.code == 1 and refusal_of(case) in result.stderr, result
    assert refusal_of(case) in result.report["error"]["desc"]


def check_completed(scene, migration, there):
    migration.complete(PATIENCE)
    assert there.qmp.status() == "paused"
    assert oracle.compare_ram(scene.source, there) == {}
    scene.wait_gone()
    scene.before.check()


@BY_MIGRATE
@pytest.mark.parametrize("case", SEND, ids=name_of)
def test_send(make_scene, case):
    scene = make_scene()
    monitor = scene.watch(scene.source, rule_of(case))
    there = scene.spare()
    if case[2] == "start":
        check_start(["send", "--qmp", monitor.qmp_path, "--pid", scene.source.pid, "--to", "tcp:127.0.0.1:1"], case)
        scene.check_runs_on()
        return
    migration = scene.migrate(there, {"autostart": "off"}, source_monitor=monitor)
    if case[2] == "completed":
        check_completed(scene, migration, there)
        return
    error = scene.check_failed(migration)
    assert error["class"] == "vmm" and error["desc"].endswith(refusal_of(case)), error
    if error["stage"] in UNBOUND:
        check_waits_on(migration.receive, error["stage"], f"the source gave up: {error['desc']}")
    else:
        received = migration.receive.wait(PATIENCE)
        assert received.code == 1 and f"the source gave up: {error['desc']}" in received.stderr, received
    scene.check_runs_on()
    scene.check_retry()


@pytest.mark.parametrize("case", RECEIVE, ids=name_of)
def test_receive(make_scene, case):
    scene = make_scene(backends=None)  # RAM in a file: private memory is asked for more often
    there = scene.spare()
    monitor = scene.watch(there, rule_of(case))
    if case[2] == "start":
        check_start(["receive", "--qmp", monitor.qmp_path, "--pid", there.pid, "--listen", "tcp:127.0.0.1:0"], case)
        scene.check_retry(there)
        return
    autostart = "on" if case[0] in ("cont", "announce-self") or "cont" in case or case[1] == 2 else "off"
    migration = scene.migrate(there, {"autostart": autostart}, there_monitor=monitor)
    if case[2] == "completed" and autostart == "on":
        migration.complete(PATIENCE)
        assert (scene.source.qmp.status(), there.qmp.status()) == (scene.left(), "running")
        scene.check_works(there)
        return
    if case[2] == "completed":
        check_completed(scene, migration, there)
        return
    if case[2] == "never":
        error = scene.check_failed(migration)
        assert error["desc"].startswith("the destination will never run the guest: "), error
        assert refusal_of(case) in error["desc"]
        received = migration.receive.wait(PATIENCE)
        assert received.code == 1 and "does not run here and never will; end this VMM" in received.stderr
        assert there.qmp.status() == "paused"
        scene.check_runs_on()
        return
    error = scene.check_failed(migration)
    assert error["desc"] == f"destination: {refusal_of(case)}", error
    received = migration.receive.wait(PATIENCE)
    assert received.code == 1 and refusal_of(case) in received.stderr
    scene.check_runs_on()
    loading = len(case) > 3
    assert ("start it anew" if loading else "can wait for another try") in received.stderr
    scene.check_retry(None if loading else there)


def held_at_final(scene, stage="final"):
    monitor = scene.watch(scene.source)
    migration = scene.migrate(scene.spare(), source_monitor=monitor, fault=f"hold@{stage}=60000")
    migration.send.wait_event(event="stage", stage=stage)
    return migration, monitor


@pytest.mark.parametrize("command", SEND_UNDO)
def test_a_refusal_while_all_is_put_back(make_scene, command):
    scene = make_scene()
    migration, monitor = held_at_final(scene)
    monitor.rules.append(Rule(command))
    migration.send.signal(signal.SIGINT)
    assert scene.check_failed(migration)["class"] == "cancelled"
    scene.check_runs_on()
    scene.check_retry()


@pytest.mark.parametrize("command", ["query-migrate", "migrate-set-capabilities"])
def test_a_refusal_while_the_guardian_puts_all_back(make_scene, command):
    scene = make_scene()
    migration, monitor = held_at_final(scene)
    monitor.rules.append(Rule(command))
    migration.send.kill()
    scene.check_runs_on()
    assert "godwit guardian: warning: the engine died; the guest runs on" in words_of(migration.send)
    scene.check_retry()


def test_cont_is_tried_again(make_scene):
    scene = make_scene()
    migration, monitor = held_at_final(scene, "hand-over")
    monitor.rules.append(Rule("cont"))
    migration.send.signal(signal.SIGINT)
    assert scene.check_failed(migration)["class"] == "cancelled"
    scene.check_runs_on()
    scene.check_retry()


@BY_MIGRATE
def test_settings_cannot_be_put_back(make_scene):
    """The guest comes first; that something is left is said."""
    scene = make_scene()
    migration, monitor = held_at_final(scene)
    monitor.rules.append(Rule("migrate-set-capabilities", 0))
    migration.send.signal(signal.SIGINT)
    scene.check_failed(migration)
    assert "what was set in its VMM was not put back: QEMU refused migrate-set-capabilities" in words_of(migration.send)
    assert scene.source.qmp.status() == "running"
    assert scene.before.differences()
    scene.check_works(scene.source)


@BY_MIGRATE
def test_the_guest_cannot_be_put_back(make_scene):
    """As long as QEMU refuses nobody can bring it back; the guardian does as soon as it can."""
    scene = make_scene()
    migration, monitor = held_at_final(scene)
    monitor.rules.append(Rule("query-migrate", 0))
    migration.send.signal(signal.SIGINT)
    error = scene.check_failed(migration, 3)
    assert error["class"] == "cancelled"
    assert "'migrate_cancel' and then 'cont' on this VMM's monitor let it run here" in words_of(migration.send)
    assert "goes on trying to put it back" in words_of(migration.send)
    monitor.rules.clear()
    scene.check_runs_on()
    scene.check_retry()


def test_as_if_refused(make_scene):
    """Without anybody on the way to the monitor: the fault that stands for it."""
    scene = make_scene()
    there = scene.spare()
    migration = scene.migrate(there, fault="qmp-refuse@transaction")
    assert scene.check_failed(migration)["desc"] == "QEMU refused transaction: injected fault"
    scene.check_runs_on()
    scene.check_retry(there)


REAL_SEND = ["query-cpus-fast", "migrate-set-capabilities", "migrate-set-parameters", "transaction", "getfd", "migrate",
             "migrate-continue"]


@BY_MIGRATE
@pytest.mark.parametrize("command", REAL_SEND)
def test_send_real(make_real, command):
    scene = make_real()
    migration = scene.migrate(scene.spare(), source_monitor=scene.watch(scene.source, Rule(command)))
    assert scene.check_failed(migration)["desc"].endswith(refusal_of([command]))
    scene.check_runs_on()
    scene.check_retry()


@pytest.mark.parametrize("command", ["migrate-set-capabilities", "getfd", "migrate-incoming"])
def test_receive_real(make_real, command):
    scene = make_real()
    there = scene.spare()
    migration = scene.migrate(there, there_monitor=scene.watch(there, Rule(command)))
    assert scene.check_failed(migration)["desc"] == f"destination: {refusal_of([command])}"
    migration.receive.wait(PATIENCE)
    scene.check_runs_on()
    scene.check_retry(there)


@BY_MIGRATE
@pytest.mark.parametrize("command", ["query-cpus-fast", "transaction", "migrate", "migrate-continue"])
def test_the_source_vmm_dies(make_scene, command):
    """Then there is no guest any more, and nobody says that it runs on. The destination does not run it either."""
    scene = make_scene(options=("--die", command))
    migration = scene.migrate(scene.spare())
    sent = migration.send.wait(PATIENCE)
    assert sent.code == 1 and "QEMU went away" in sent.report["error"]["desc"], sent
    assert "runs on at the source" not in sent.stderr
    if command == "query-cpus-fast":
        check_waits_on(migration.receive, "inspect", "QEMU went away")
    else:
        assert "the guest's VMM has ended" in sent.stderr
        assert migration.receive.wait(PATIENCE).code == 1
    wait_until(lambda: not processes_of(scene.source.qmp_path), "the last godwit of this guest ends")


@pytest.mark.parametrize("command", ["getfd", "migrate-incoming"])
def test_the_destination_vmm_dies(make_scene, command):
    scene = make_scene()
    there = scene.spare(options=("--die", command))
    migration = scene.migrate(there)
    error = scene.check_failed(migration)
    assert error["desc"].startswith("destination: ") and "QEMU went away" in error["desc"]
    assert migration.receive.wait(PATIENCE).code == 1
    scene.check_runs_on()
    scene.check_retry()


@BY_MIGRATE
def test_no_answer(make_scene):
    """A VMM that does not answer holds nothing up for good. All at once, since each waits for its time."""
    held = []
    for side, command in (("send", "query-cpus-fast"), ("send", "migrate"), ("send", "migrate-continue"),
                          ("receive", "migrate-incoming"), ("receive", "getfd")):
        scene = make_scene(memory=32 << 20, load="uniform,rate=1M")
        there = scene.spare()
        monitor = scene.watch(scene.source if side == "send" else there, Rule(command, hang=True))
        monitors = {"source_monitor" if side == "send" else "there_monitor": monitor}
        held.append((scene, command, scene.migrate(there, **monitors)))
    for scene, command, migration in held:
        error = scene.check_failed(migration)
        if error["stage"] in UNBOUND:  # a receiver does not wait for a source's VMM, and waits for another source
            assert error["desc"] == "destination: it brought no guest within 10 s", error
            assert migration.receive.alive()
            continue
        assert f"QEMU did not answer {command} " in error["desc"], error  # in time, or before the stop limit was over
        assert migration.receive.wait(PATIENCE).code == 1
        scene.check_runs_on()
        scene.check_retry()


def test_no_greeting(make_scene):
    """Somebody else holds the monitor."""
    scene = make_scene()
    scene.spare()
    monitor = scene.watch(scene.source, Rule("qmp_capabilities", hang=True))
    with gw.Engine("send", "--qmp", monitor.qmp_path, "--pid", scene.source.pid, "--to", "tcp:127.0.0.1:1") as send:
        result = send.wait(PATIENCE)
    assert result.code == 1 and "QEMU did not answer qmp_capabilities in time" in result.stderr
    scene.check_runs_on()
