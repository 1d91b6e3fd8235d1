# SPDX-License-Identifier: Apache-2.0
"""QEMU's own migrations through two relays: the guest's memory is equal, and the guest goes on."""
import contextlib
import json
import os
import subprocess

import pytest

from gwtest import blocks, places, relay, silence, stock
from gwtest.qemu import MIB
from scene import PATIENCE

pytestmark = pytest.mark.usefixtures("engine")

QUICK = {"max-bandwidth": 10 << 30, "downtime-limit": 500}


def loaded(make_guest, machine="pc", **options):
    size = stock.memory(256 * MIB)
    guest = make_guest(memory_args=["-machine", machine, "-m", f"size={size // 1024}K"],
                       load={"mem": 100, "rate": 8000}, **options)
    return guest.wait_ready()


def prepare(guest, there, capabilities=(), **parameters):
    wanted = [{"capability": name, "state": True} for name in capabilities]
    for end in (guest, there):
        if wanted:
            end.qmp.execute("migrate-set-capabilities", {"capabilities": wanted})
        if parameters:
            end.qmp.execute("migrate-set-parameters", parameters)
    guest.qmp.execute("migrate-set-parameters", QUICK)


def ended(qmp):
    answer = qmp.execute("query-migrate")
    return answer if answer.get("status") in ("completed", "failed", "cancelled") else None


def complete(guest, there):
    answer = guest.qmp.wait_until(ended, PATIENCE * 2)
    assert answer["status"] == "completed", (answer, there.log())
    there.qmp.wait_until(lambda qmp: ended(qmp) and qmp.status() == "paused", PATIENCE)


def check_goes_on(guest, there, runs=False):
    """`runs`: it has gone on already, so its memory cannot be compared."""
    assert guest.qmp.status() == "postmigrate"
    if not runs:
        assert blocks.compare(guest, there) == {}
        there.qmp.execute("cont")
    there.serial.wait_ticks(50)
    found = silence.measure(guest.serial, there.serial)
    assert found.across and (found.jumps, found.errors, found.errors_counted) == ([], [], 0)


def check_carried(pair, connections, migrations=1):
    """Both say the same of every connection, and what was read makes sense. The connections' kinds."""
    for end in pair.wait_ended(migrations):
        assert end["status"] == "carried" and end["connections"] == connections, end
    here, there = ({e["connection"]: e for e in side.closed()} for side in (pair.source, pair.destination))
    for number, one in here.items():
        other = there[number]
        assert (one["sent"], one["taken"]) == (other["taken"], other["sent"]) and one["error"] is None
    streams = [e["stream"] for e in here.values()]
    main = next(s for s in streams if s["kind"] == "main")
    assert main["opaque-since"] in (None, "device state")
    return sorted(s["kind"] for s in streams), main


@pytest.mark.parametrize("capabilities", [[], ["return-path"], ["xbzrle"]], ids=["plain", "return-path", "xbzrle"])
def test_one_connection(make_guest, shm, capabilities):
    guest = loaded(make_guest)
    there = make_guest.destination(guest)
    with relay.Pair(shm) as pair:
        prepare(guest, there, capabilities)
        there.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        complete(guest, there)
        kinds, main = check_carried(pair, 1)
        assert kinds == ["main"] and main["pages"] > 100 * MIB // 4096 and main["zero"] > 1000 and main["sections"] > 2
        check_goes_on(guest, there)


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_across_versions(make_guest, shm, back):
    """From one version of QEMU to another, with the older one's machine type."""
    if not places.other_qemu():
        pytest.skip("no second QEMU: GODWIT_OTHER_QEMU is not set")
    ours, other = (places.qemu(), places.other_qemu())[::-1 if back else 1]
    guest = loaded(make_guest, machine="pc-i440fx-7.2", binary=ours)
    there = make_guest.destination(guest, binary=other)
    with relay.Pair(shm) as pair:
        prepare(guest, there, ["return-path"])
        there.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        complete(guest, there)
        kinds, main = check_carried(pair, 1)
        assert kinds == ["main"] and main["pages"] > 100 * MIB // 4096
        check_goes_on(guest, there)


def test_multifd(make_guest, shm):
    guest = loaded(make_guest)
    there = make_guest.destination(guest)
    with relay.Pair(shm) as pair:
        prepare(guest, there, ["multifd"], **{"multifd-channels": 2})
        there.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        complete(guest, there)
        kinds, _ = check_carried(pair, 3)
        assert kinds == ["main", "multifd", "multifd"]
        check_goes_on(guest, there)


def start_postcopy(guest, there, pair):
    """With much of it left; returns when the destination has the guest."""
    guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 40 << 20, "max-postcopy-bandwidth": 40 << 20})
    there.qmp.execute("migrate-incoming", uri=pair.into)
    guest.qmp.execute("migrate", uri=pair.out)
    guest.qmp.wait_until(lambda qmp: qmp.execute("query-migrate").get("ram", {}).get("transferred", 0) > 20 << 20,
                         PATIENCE)
    guest.qmp.execute("migrate-start-postcopy")
    there.qmp.wait_until(lambda qmp: qmp.status() != "inmigrate", PATIENCE)


@pytest.mark.parametrize("runs", [False, True], ids=["paused", "runs"])
@pytest.mark.parametrize("preempt", [False, True], ids=["postcopy", "preempt"])
def test_postcopy(make_guest, shm, preempt, runs):
    """A destination that is paused asks for nothing and can be compared; one that runs asks for pages."""
    if preempt and stock.version() < (8, 0):
        pytest.skip("postcopy-preempt is new in 7.2, where it cannot be relied on")
    guest = loaded(make_guest)
    there = make_guest.destination(guest)
    with relay.Pair(shm) as pair:
        prepare(guest, there, ["postcopy-ram"] + ["postcopy-preempt"] * preempt)
        start_postcopy(guest, there, pair)
        if runs:
            there.qmp.execute("cont")
        answer = guest.qmp.wait_until(ended, PATIENCE * 2)
        assert answer["status"] == "completed" and (not runs or answer["ram"]["postcopy-requests"] > 0), answer
        there.qmp.wait_until(ended, PATIENCE)
        kinds, main = check_carried(pair, 2 if preempt else 1)
        assert kinds in (["main"], ["main", "unknown"], ["main", "other"])
        assert not (preempt and runs) or kinds == ["main", "other"]
        assert main["opaque-since"] is None and main["pages"] > 0
        check_goes_on(guest, there, runs)


def test_again_and_back(make_guest, shm):
    """The same relays, one migration after the other; the second begins with a refusal."""
    guest = loaded(make_guest)
    there = make_guest.destination(guest)
    with relay.Pair(shm) as pair:
        prepare(guest, there, ["return-path"])
        guest.qmp.execute("migrate", uri=pair.out)  # nobody waits there
        assert guest.qmp.wait_until(ended, PATIENCE)["status"] == "failed"
        guest.qmp.wait_until(lambda qmp: qmp.status() == "running", PATIENCE)
        there.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        complete(guest, there)
        for one, status in zip(pair.source.ends(), ("failed", "carried")):
            assert one["status"] == status
        assert "does a QEMU wait for a migration there?" in pair.source.ends()[0]["error"]
        check_goes_on(guest, there)
        for one in (pair.source, pair.destination):
            one.signal(15)
            assert one.wait(10).code == 0
        assert not os.path.exists(pair.out[5:])


def items(pieces, source, target):
    program = os.path.join(places.build(), "tests", "items")
    done = subprocess.run([program, str(pieces), source, target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def content(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("machine", ["pc", "pc-i440fx-7.2"])
@pytest.mark.parametrize("capabilities", [[], ["x-ignore-shared"]], ids=["all", "ignore-shared"])
def test_recorded_streams(make_bare, shm, machine, capabilities):
    """What a QEMU writes is taken apart and put together again, however it is cut; all of its RAM is understood."""
    guest = make_bare(machine=machine)
    whole, again = (os.path.join(shm, name) for name in ("whole", "again"))
    wanted = [{"capability": name, "state": True} for name in capabilities]
    if wanted:
        guest.qmp.execute("migrate-set-capabilities", {"capabilities": wanted})
    guest.qmp.execute("migrate", uri=f"exec:cat > {whole}")
    assert guest.qmp.wait_until(ended, PATIENCE)["status"] == "completed"
    said = items(0, whole, again)
    assert content(again) == content(whole)
    assert said["kind"] == "main" and said["opaque-since"] == "device state" and said["pages"] > 10
    for pieces in range(1, 8):
        assert items(pieces, whole, again) == said
        assert content(again) == content(whole)


def test_many_at_a_time(shm, stack):
    """Connections of eight processes at once, each with its own answer."""
    from relay_fakes import Echo, talk  # noqa: PLC0415
    with relay.Pair(shm) as pair, Echo(pair.into[5:]):
        with contextlib.ExitStack() as children:
            talking = [children.enter_context(talk(pair.out[5:], number)) for number in range(8)]
            assert [child.wait(60) for child in talking] == [0] * 8
        pair.wait_ended(8)
        ends = pair.source.ends()
        assert [e["status"] for e in ends] == ["carried"] * 8 and len({e["migration"] for e in ends}) == 8
