# SPDX-License-Identifier: Apache-2.0
"""QEMU's own migration through two relays goes wrong: QEMU hears of it within seconds, and the guest runs on."""
import contextlib
import os
import socket
import tempfile
import time

import pytest

from gwtest import engine as gw, oracle, places, relay, stock, wire
from gwtest.qemu import MIB
from relay_fakes import Echo
from scene import PATIENCE, wait_until

pytestmark = pytest.mark.usefixtures("engine")

RETURN_PATH = [{"capability": "return-path", "state": True}]
SILENCE = 3
SOON = places.patience(SILENCE + 7)  # seconds within which QEMU has to have heard


def make_slow(make_bare, name=""):
    """A source and a destination whose migration takes some 5 s."""
    guest = make_bare(name="source" + name)
    with open(guest.ram_paths[0], "r+b") as ram:
        ram.seek(16 * MIB)
        ram.write(os.urandom(32 * MIB))
    there = make_bare(name="destination" + name, incoming=True)
    guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 8 * MIB})
    return guest, there


def begin(guest, there, pair, capabilities=()):
    """Returns when some of it has gone over."""
    wanted = [{"capability": name, "state": True} for name in capabilities]
    for end in (guest, there):
        if wanted:
            end.qmp.execute("migrate-set-capabilities", {"capabilities": wanted})
    there.qmp.execute("migrate-incoming", uri=pair.into)
    guest.qmp.execute("migrate", uri=pair.out)
    guest.qmp.wait_until(lambda qmp: qmp.execute("query-migrate").get("ram", {}).get("transferred", 0) > 4 * MIB,
                         PATIENCE)


def status(guest):
    return guest.qmp.execute("query-migrate").get("status")


def check_failed(guest, there, began, hangs=False):
    """The source's QEMU knows, and its guest runs; the destination's QEMU has given up, or may hang as it is."""
    guest.qmp.wait_until(lambda qmp: status(guest) == "failed", PATIENCE)
    guest.qmp.wait_until(lambda qmp: qmp.status() == "running", PATIENCE)
    if not hangs:
        assert there.wait_gone(PATIENCE) != 0
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("capabilities", [[], ["return-path"]], ids=["plain", "return-path"])
@pytest.mark.parametrize("which", ["source", "destination"])
def test_relay_killed(make_bare, shm, which, capabilities):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair, capabilities)
        began = time.monotonic()
        getattr(pair, which).kill()
        check_failed(guest, there, began)
        other = pair.destination if which == "source" else pair.source
        wait_until(other.ends, "the other relay notices")
        # It ends, or is reset where something lay unread.
        assert any(words in other.ends()[0]["error"] for words in ("the other relay", "Connection reset by peer"))


def test_relay_killed_at_any_moment(make_bare, shm):
    """With a return path: the guest runs at the source, or all of it is at the destination. The last two times the relay
    is killed when the migration has ended, however long that takes here, so that both are looked at."""
    guest, found = None, {"failed": 0, "completed": 0}
    for i in range(18):
        late = i >= 16
        if guest is None:
            guest, there = make_slow(make_bare, f"-{i}")
            guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 128 * MIB})
        else:
            there = make_bare(name=f"destination-{i}", incoming=True)
        for end in (guest, there):
            end.qmp.execute("migrate-set-capabilities", {"capabilities": RETURN_PATH})
        with relay.Pair(tempfile.mkdtemp(dir=shm), silence=SILENCE) as pair:
            there.qmp.execute("migrate-incoming", uri=pair.into)
            guest.qmp.execute("migrate", uri=pair.out)
            if late:
                guest.qmp.wait_until(lambda qmp: status(guest) in found, PATIENCE)
            else:
                time.sleep(0.06 * (i // 2))
            (pair.source if i % 2 else pair.destination).kill()
            state = guest.qmp.wait_until(lambda qmp: status(guest) in found and status(guest), PATIENCE)
        found[state] += 1
        assert state == "completed" or not late, pair.source.told()
        if state == "failed":
            guest.qmp.wait_until(lambda qmp: qmp.status() == "running", PATIENCE)
        else:
            there.qmp.wait_until(lambda qmp: qmp.status() == "paused", PATIENCE)
            assert oracle.compare_ram(guest, there) == {}
            guest = None
        there.stop()
    print(found)
    assert found["failed"] > 0 and found["completed"] > 1, found


def test_link_cut(make_bare, shm, hosts):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, hosts=hosts, silence=SILENCE) as pair:
        begin(guest, there, pair)
        began = time.monotonic()
        hosts.cut()
        check_failed(guest, there, began)
        for end in pair.wait_ended():
            assert "said nothing for too long" in end["error"]


def test_connection_reset(make_bare, shm):
    guest, there = make_slow(make_bare)
    with relay.Between() as between, relay.Pair(shm, through=between.through, silence=SILENCE) as pair:
        begin(guest, there, pair)
        began = time.monotonic()
        between.cut()
        check_failed(guest, there, began)


@pytest.mark.parametrize("capabilities", [[], ["multifd"]], ids=["plain", "multifd"])
def test_changed_bit(make_bare, shm, capabilities):
    """Of three connections the one that it happens to ends the others too."""
    guest, there = make_slow(make_bare)
    # QEMU 7.2 waits for ever for the SYNC of a channel that is gone, when that is what it waits for in that moment.
    hangs = bool(capabilities) and stock.version() < (8, 0)
    with relay.Between() as between, \
            relay.Pair(shm, tcp=bool(capabilities), through=between.through, silence=SILENCE) as pair:
        begin(guest, there, pair, capabilities)
        began = time.monotonic()
        between.flip(between.carried + MIB)
        check_failed(guest, there, began, hangs)
        here, other = pair.wait_ended()
        assert "not what left" in other["error"] or "damaged" in other["error"]
        assert "the other relay: " in here["error"]
        assert here["connections"] == other["connections"] == (3 if capabilities else 1)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_corrupt_in_the_relay(make_bare, shm, side):
    guest, there = make_slow(make_bare)
    packet = 20 if side == "source" else 1
    with relay.Pair(shm, silence=SILENCE, **{f"{side}_fault": f"corrupt-carried@{side}={packet}"}) as pair:
        began = time.monotonic()
        for end in (guest, there):
            end.qmp.execute("migrate-set-capabilities", {"capabilities": RETURN_PATH})
        there.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        check_failed(guest, there, began)
        found = pair.source if side == "destination" else pair.destination
        wait_until(found.ends, "it is noticed")
        assert "not what left" in found.ends()[0]["error"]


def test_destination_killed(make_bare, shm):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        there.stop()
        began = time.monotonic()
        guest.qmp.wait_until(lambda qmp: status(guest) == "failed" and qmp.status() == "running", SOON)
        assert time.monotonic() - began < SOON
        here, other = pair.wait_ended()
        assert "takes no more" in here["error"] and "takes no more" in other["error"]


def test_source_killed(make_bare, shm):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        guest.stop()
        assert there.wait_gone(SOON) != 0
        pair.wait_ended()
        assert pair.source.alive() and pair.destination.alive()


def test_cancelled_and_again(make_bare, shm):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        guest.qmp.execute("migrate_cancel")
        guest.qmp.wait_until(lambda qmp: status(guest) == "cancelled" and qmp.status() == "running", SOON)
        there.wait_gone(SOON)
        pair.wait_ended()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pair.into[5:])
        another = make_bare(name="another", incoming=True)
        guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 30})
        another.qmp.execute("migrate-incoming", uri=pair.into)
        guest.qmp.execute("migrate", uri=pair.out)
        another.qmp.wait_until(lambda qmp: qmp.status() == "paused", PATIENCE)
        assert status(guest) == "completed" and pair.wait_ended(2)[0]["status"] == "carried"


def test_told_to_end(make_bare, shm):
    """The first signal lets the migration end, the second does not."""
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        pair.source.signal(15)
        wait_until(lambda: "a second signal" in pair.source.told(), "it says so")
        time.sleep(0.5)
        assert pair.source.alive() and status(guest) == "active"
        began = time.monotonic()
        pair.source.signal(15)
        assert pair.source.wait(10).code == 0
        check_failed(guest, there, began)


def test_told_to_end_waits(make_bare, shm):
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        for one in (pair.source, pair.destination):
            one.signal(15)
        assert pair.source.wait(PATIENCE).code == 0 and pair.destination.wait(PATIENCE).code == 0
        there.qmp.wait_until(lambda qmp: qmp.status() == "paused", PATIENCE)
        assert status(guest) == "completed"


# ---- everybody else ----


STRANGERS = {
    "web": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(100),
    "send": wire.hello(),
    "version": relay.hello(version=9),
    "no open": relay.hello() + relay.packet(relay.ALIVE),
    "damaged": relay.hello() + relay.packet(relay.OPEN, check=1),
    "too long": relay.hello() + relay.packet(relay.OPEN, size=1 << 30),
    "later": relay.hello(number=3) + relay.packet(relay.OPEN),
}


def count(one, event):
    return len([e for e in one.events() if e["event"] == event])


def end_of(sock):
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass


def test_strangers(make_bare, shm):
    """While a migration is carried: none of them is connected to QEMU, and it goes on."""
    guest, there = make_slow(make_bare)
    with relay.Pair(shm, silence=SILENCE) as pair:
        begin(guest, there, pair)
        silent = socket.create_connection(("127.0.0.1", pair.port))
        for data in STRANGERS.values():
            with socket.create_connection(("127.0.0.1", pair.port), timeout=PATIENCE) as sock:
                sock.sendall(data)
                end_of(sock)
        guest.qmp.wait_until(lambda qmp: status(guest) == "completed", PATIENCE)
        there.qmp.wait_until(lambda qmp: qmp.status() == "paused", PATIENCE)
        ends = pair.wait_ended()
        assert [e["status"] for e in ends] == ["carried"] * 2, (ends, pair.destination.told())
        wait_until(lambda: count(pair.destination, "refused") == len(STRANGERS) + 1, "all are, the silent one too")
        silent.close()


@contextlib.contextmanager
def deliverer(shm, *allowed):
    port = gw.next_port()
    args = [word for one in allowed for word in ("--allow", one)]
    with relay.Relay(shm, "destination", "--listen", f"tcp:127.0.0.1:{port}", "--deliver", "original", *args) as one:
        one.wait_event(event="listening")
        yield one, port


def test_nothing_but_what_is_allowed(shm):
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [s.getsockname()[1] for s in (allowed, other)]
        other.settimeout(0.5)
        with deliverer(shm, f"127.0.0.1:{ports[0]}") as (_, port):
            others = [f"tcp:127.0.0.1:{ports[1]}", f"tcp:localhost:{ports[0]}", "unix:/dev/null", "", "x" * 900,
                       f"tcp:[::ffff:127.0.0.1]:{ports[0]}", f"tcp:127.0.0.1:{ports[0]}x"]
            for n, wanted in enumerate(others):
                sock, kind, text = relay.connect(port, wanted, session=bytes([n]) * 16)
                sock.close()
                assert kind == relay.ABORT, wanted
                assert b"may deliver to" in text or b"does not know where" in text, text
            with pytest.raises(socket.timeout):
                other.accept()
            sock, kind, _ = relay.connect(port, f"tcp:127.0.0.1:{ports[0]}", session=b"a" * 16)
            assert kind == relay.OPENED
            allowed.settimeout(PATIENCE)
            allowed.accept()[0].close()
            sock.close()


def test_connections_in_their_order(shm):
    with socket.create_server(("127.0.0.1", 0)) as qemu:
        wanted = f"tcp:127.0.0.1:{qemu.getsockname()[1]}"
        with deliverer(shm, wanted) as (_, port):
            first, kind, _ = relay.connect(port, wanted, 0)
            assert kind == relay.OPENED
            for number in (0, 2):
                sock, kind, text = relay.connect(port, wanted, number)
                assert kind == relay.ABORT and b"out of its turn" in text
                sock.close()
            second, kind, _ = relay.connect(port, wanted, 1)
            assert kind == relay.OPENED
            # a failure of the one is one of the other
            second.sendall(relay.packet(relay.DATA, b"abc", b"abd"))
            for sock in (first, second):
                found = None
                while found != relay.ABORT:
                    found, _ = relay.read_packet(sock)
                sock.close()


def test_crowd_of_strangers(shm):
    """They are bounded in number and in time, and then there is room again."""
    with socket.create_server(("127.0.0.1", 0)) as qemu:
        wanted = f"tcp:127.0.0.1:{qemu.getsockname()[1]}"
        with deliverer(shm, wanted) as (one, port), contextlib.ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            wait_until(lambda: "have not said yet" in one.told(), "some are refused at once")
            wait_until(lambda: count(one, "refused") == 80, "all of them in the end")
            _, kind, _ = relay.connect(port, wanted)
            assert kind == relay.OPENED


def test_no_relay_there(make_bare, shm):
    guest = make_bare(name="source")
    out = os.path.join(shm, "out")
    with relay.Relay(shm, "source", "--from", f"unix:{out}", "--to", "tcp:127.0.0.1:1") as one:
        one.wait_event(event="listening")
        guest.qmp.execute("migrate", uri=f"unix:{out}")
        guest.qmp.wait_until(lambda qmp: status(guest) == "failed" and qmp.status() == "running", PATIENCE)
        assert "is 'godwit relay --listen' running there?" in one.told()


def test_not_redirected(shm):
    """Who connects to the port itself is nobody's migration."""
    port = gw.next_port()
    with relay.Relay(shm, "source", "--from", f"redirect:{port}", "--to", "tcp:127.0.0.1:1") as one:
        one.wait_event(event="listening")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            end_of(sock)
        assert one.wait_event(event="refused")["class"] == "refused"


@pytest.mark.parametrize("args, why", [
    ((), "on which side?"), (("--from", "unix:/x"), "--to is missing"), (("--to", "tcp:h:1"), "--from is missing"),
    (("--from", "redirect:0", "--to", "tcp:h:1"), "redirect:PORT"),
    (("--from", "unix:/x", "--to", "tcp:h:1", "--listen", "tcp:h:1"), "on which side?"),
    (("--listen", "tcp:h:1"), "--deliver is missing"), (("--deliver", "original"), "--listen is missing"),
    (("--listen", "tcp:h:1", "--deliver", "original"), "--allow is missing"),
    (("--listen", "tcp:h:1", "--deliver", "tcp:h:2", "--allow", "127.0.0.1:1"), "for --deliver original"),
    (("--allow", "host:1"), "not HOST[/BITS]:PORT[-PORT]"), (("--silence", "1"), "3 to 3600"),
    (("extra",), "what is 'extra' for")])
def test_wrong_use(args, why):
    with gw.Engine("relay", *args, machine=False) as one:
        result = one.wait(10)
    assert result.code == 2 and why in result.stderr


def test_address_in_use(shm):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
        with gw.Engine("relay", "--listen", address, "--deliver", "unix:/x", machine=False) as one:
            result = one.wait(10)
        assert result.code == 1 and "something listens there already" in result.stderr
    with Echo(os.path.join(shm, "mine")):
        with gw.Engine("relay", "--from", f"unix:{shm}/mine", "--to", "tcp:h:1", machine=False) as one:
            assert one.wait(10).code == 1
        assert os.path.exists(f"{shm}/mine")
