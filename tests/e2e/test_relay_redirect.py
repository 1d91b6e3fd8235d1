# SPDX-License-Identifier: Apache-2.0
"""Nobody is told of the relays: the source's firewall brings to them what QEMU connects to."""
import os
import shutil
import subprocess
import sys

import pytest

from gwtest import oracle, relay
from gwtest.qemu import MIB
from scene import PATIENCE

pytestmark = pytest.mark.usefixtures("engine")

RELAYS, TAKEN = 4914, 4999
FIRST, LAST, FORBIDDEN = 49152, 49215, 49300


def redirect(host, first, last):
    """As the man page of `godwit relay` has it."""
    if not shutil.which("nft"):
        pytest.skip("no nft (install nftables)")
    rules = f"""
    table ip godwit {{
        chain out {{
            type nat hook output priority -100;
            oif != lo tcp dport {first}-{last} redirect to :{TAKEN}
        }}
    }}"""
    subprocess.run(["ip", "netns", "exec", host.netns, "nft", "-f", "-"], input=rules, text=True, check=True)


@pytest.fixture
def relays(hosts, shm, stack):
    """(source's, destination's)"""
    redirect(hosts.a, FIRST, FORBIDDEN)
    there = stack.enter_context(relay.Relay(
        shm, "destination", "--listen", f"tcp:{hosts.b.address}:{RELAYS}", "--deliver", "original", "--allow",
        f"{hosts.b.address}:{FIRST}-{LAST}", netns=hosts.b.netns))
    there.wait_event(event="listening")
    here = stack.enter_context(relay.Relay(shm, "source", "--from", f"redirect:{TAKEN}", "--to",
                                           f"tcp:{hosts.b.address}:{RELAYS}", netns=hosts.a.netns))
    here.wait_event(event="listening")
    return here, there


def pair_of_guests(make_bare, hosts, name):
    guest = make_bare(name=name, netns=hosts.a.netns)
    with open(guest.ram_paths[0], "r+b") as ram:
        ram.seek(16 * MIB)
        ram.write(os.urandom(24 * MIB))
    guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 16 * MIB})
    return guest, make_bare(name=name + "-there", netns=hosts.b.netns, incoming=True)


def begin(guest, there, hosts, port, capabilities):
    for end in (guest, there):
        end.qmp.execute("migrate-set-capabilities",
                        {"capabilities": [{"capability": name, "state": True} for name in capabilities]})
    uri = f"tcp:{hosts.b.address}:{port}"
    there.qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)


def wait_status(guest, *wanted):
    guest.qmp.wait_until(lambda qmp: qmp.execute("query-migrate").get("status") in wanted, PATIENCE)
    return guest.qmp.execute("query-migrate")["status"]


def test_two_guests_at_once(make_bare, hosts, relays):
    here, there = relays
    guests = [pair_of_guests(make_bare, hosts, name) for name in ("one", "two")]
    for port, capabilities, (guest, other) in zip((FIRST, LAST), (["return-path"], ["return-path", "multifd"]), guests):
        begin(guest, other, hosts, port, capabilities)
    for guest, other in guests:
        assert wait_status(guest, "completed", "failed") == "completed", (here.told(), there.told())
        other.qmp.wait_until(lambda qmp: qmp.status() == "paused", PATIENCE)
        assert oracle.compare_ram(guest, other) == {}
    ends = sorted(e["connections"] for e in here.ends() if e["status"] == "carried")
    assert ends == [1, 3], (here.events(), there.events())
    assert {f"{hosts.a.address} to tcp:{hosts.b.address}:{port}" for port in (FIRST, LAST)} == \
        {e["from"] for e in here.events() if e["event"] == "opened"}


def test_made_to_the_relay_itself(hosts, relays):
    """It would be delivered to the destination's relay's own host, at the relay's own port, if that were allowed."""
    here, there = relays
    code = f"import socket; s = socket.create_connection(('127.0.0.1', {TAKEN})); s.settimeout(20); print(s.recv(1))"
    done = subprocess.run(["ip", "netns", "exec", hosts.a.netns, sys.executable, "-c", code], capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == "b''"
    assert "not redirected here" in here.wait_event(event="refused")["desc"]
    assert [e["event"] for e in there.events()] == ["listening"]


def test_what_is_not_allowed(make_bare, hosts, relays):
    """The destination's QEMU never hears of it, and waits on."""
    here, _ = relays
    guest, there = pair_of_guests(make_bare, hosts, "one")
    begin(guest, there, hosts, FORBIDDEN, ["return-path"])
    assert wait_status(guest, "completed", "failed") == "failed"
    guest.qmp.wait_until(lambda qmp: qmp.status() == "running", PATIENCE)
    assert there.qmp.status() == "inmigrate" and there.alive()
    assert f"{FORBIDDEN} is not among the addresses" in here.ends()[0]["error"]


def test_a_rule_that_catches_the_relay_itself(hosts, shm):
    """It would bring what the relay connects to back to the relay, and so on."""
    redirect(hosts.a, RELAYS, RELAYS)
    with relay.Relay(shm, "source", "--from", f"redirect:{TAKEN}", "--to", f"tcp:{hosts.b.address}:{RELAYS}",
                     netns=hosts.a.netns) as here:
        here.wait_event(event="listening")
        code = ("import socket\n"
                f"s = socket.create_connection(('{hosts.b.address}', {RELAYS})); s.settimeout(20); print(s.recv(1))")
        done = subprocess.run(["ip", "netns", "exec", hosts.a.netns, sys.executable, "-c", code], capture_output=True,
                              text=True, check=True)
        assert done.stdout.strip() == "b''"
        assert "leave that port out of its rule" in here.wait_event(event="ended")["error"]
        assert len(here.ends()) == 1
