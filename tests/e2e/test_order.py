# SPDX-License-Identifier: Apache-2.0
"""An older version of a page never lands on a newer one, whatever channel carried it."""
import pytest

from gwtest import engine as gw, oracle
from gwtest.qemu import MIB

# One decoder takes 40 ms for each batch: later passes on the other channel would overtake it.
SLOW = "decoder-delay@1=40"


def move(make_stunt, fault):
    """A guest that rewrites all of a small memory, over several passes. Without changes: the digest of a change tells by
    itself that it came upon another version than it was made from."""
    source = make_stunt(name="src", memory=24 * MIB, fill=100, load="uniform,rate=60M", options=["--no-hash"])
    there = make_stunt.destination(source, options=["--no-check"])
    settings = {"autostart": "off", "channels": 2, "pages-per-batch": 64, "compression": "lz4", "downtime-limit": 0,
                "xbzrle-cache-size": 0}
    with gw.Migration(source, there, settings=settings, receive_fault=fault) as migration:
        migration.send.wait_event(lambda e: e["event"] == "pass" and e["pass"] >= 6)
        with migration.send.control() as control:
            control.execute("migrate-set-parameters", **{"downtime-limit": 100000})
        migration.complete()
    return oracle.compare_ram(source, there)


def test_order_holds(make_stunt, engine):
    assert move(make_stunt, SLOW) == {}


def test_without_the_rule_old_lands_on_new(make_stunt, engine):
    """The same with the ordering switched off: if this finds nothing, the test above proves nothing."""
    assert move(make_stunt, SLOW + ",no-order") != {}
