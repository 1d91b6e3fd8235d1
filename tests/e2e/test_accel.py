# SPDX-License-Identifier: Apache-2.0
"""Migrations through accelerators: what a device does well is used, what it does badly costs time only."""
import contextlib
import subprocess

import pytest

from gwtest import engine as gw, oracle, places
from gwtest.card import Card
from gwtest.qemu import MIB

LOAD = "uniform,rate=40M"


@contextlib.contextmanager
def moved(make_stunt, devices, memory=96 * MIB, load=LOAD, receive_settings=None, **settings):
    """(report of the source, events): a migration that must be right in every byte."""
    source = make_stunt(name="src", memory=memory, fill=90, load=load, options=["--no-hash"])
    there = make_stunt.destination(source, options=["--no-check"])
    everything = {"autostart": "off", "compression": "qat", "accel-devices": devices, **settings}
    with gw.Migration(source, there, settings=everything, receive_settings=receive_settings) as migration:
        report = migration.complete()
        assert oracle.compare_ram(source, there) == {}
        yield report, migration.send.events()


def told(events, name):
    return [event for event in events if event["event"] == name]


def test_batches_go_through_the_device(make_stunt, shm):
    with Card(shm) as card, moved(make_stunt, card.device) as (report, events):
        (device,) = report["accel"]["devices"]
        assert device["batches"] > 100 and device["out"] < device["in"]
        assert report["accel"]["fallbacks"] == 0 and not told(events, "accel")
        assert report["codecs"]["deflate"]["batches"] >= device["batches"]
        stats = card.close()
    assert sum(client["in"] for client in stats["clients"]) == device["in"]


def test_several_devices_and_instances(make_stunt, shm):
    with Card(shm, "a") as a, Card(shm, "b") as b:
        devices = f"{a.device},{b.device}"
        with moved(make_stunt, devices, **{"accel-instances": 2}) as (report, _):
            assert len(report["accel"]["devices"]) == 2
            for device in report["accel"]["devices"]:
                assert device["instances"] == 2 and device["batches"] > 10


def test_the_destination_decompresses_by_a_device(make_stunt, shm):
    with Card(shm) as card, Card(shm, "there") as there:
        with moved(make_stunt, card.device, receive_settings={"accel-devices": there.device}) as (report, _):
            assert report["accel"]["fallbacks"] == 0
        clients = there.close()["clients"]
    assert sum(client["jobs"] for client in clients) > 100


@pytest.mark.parametrize("fault", ["garbage@20:2", "error@20:2", "hang@20:1", "reset@20:1", "garbage@0:100000"])
def test_a_bad_device_at_the_destination_costs_time_only(make_stunt, shm, fault):
    """Software decodes what it could not, and nothing is sent again for it."""
    with Card(shm, "there", fault=fault) as there:
        receive = {"accel-devices": there.device}
        with moved(make_stunt, "none", compression="deflate", receive_settings=receive) as (report, _):
            assert report["ram"]["resent"] == 0


def test_auto_may_use_the_device(make_stunt, shm):
    with Card(shm) as card, moved(make_stunt, card.device, compression="auto") as (report, _):
        assert report["accel"]["devices"][0]["health"] == "ready"


@pytest.mark.parametrize("fault, count", [
    ("garbage@20:1", "blamed"), ("garbage@20:100000", "blamed"), ("error@20:2", "failed"), ("oversize@20:2", "resets"),
    ("reset@20:1", "resets"), ("hang@20:1", "timeouts"), ("hang@20:100000", "timeouts"), ("hang@0:100000", "timeouts"),
], ids=lambda value: value)
def test_a_bad_device_costs_time_only(make_stunt, shm, fault, count):
    with Card(shm, fault=fault) as card, moved(make_stunt, card.device) as (report, events):
        (device,) = report["accel"]["devices"]
        assert device[count] > 0, device
        if count == "blamed":  # sent again, and the destination said so
            assert told(events, "rejected") and report["ram"]["resent"] > 0
        else:
            assert report["accel"]["fallbacks"] > 0
        if device["health"] != "ready" or count in ("resets", "timeouts"):
            assert told(events, "accel"), "a device was lost without a word"


def test_one_of_two_devices_dies(make_stunt, shm):
    with Card(shm, "a") as a, Card(shm, "b", fault="hang@5:100000") as b:
        with moved(make_stunt, f"{a.device},{b.device}") as (report, _):
            good, bad = report["accel"]["devices"]
            assert good["health"] == "ready" and good["batches"] > bad["batches"]
            assert bad["timeouts"] > 0


def test_garbage_and_changes_on_top_of_it(make_stunt, shm):
    """A hot set that is rewritten in small pieces: changes are made of pages that the device has spoiled."""
    load = "uniform,rate=80M,hot=8M,write=8"
    faults = [f"garbage@{n}:1" for n in (3, 60)]
    with Card(shm, fault=faults) as card:
        with moved(make_stunt, card.device, load=load, **{"downtime-limit": 20}) as (report, events):
            assert told(events, "rejected")
            assert report["ram"]["resent"] > 0


def linked_with_qatzip():
    return "qatzip" in subprocess.run(["ldd", places.godwit()], stdout=subprocess.PIPE, check=True, text=True).stdout


if linked_with_qatzip():  # Debian 13: its own software path, for there is no hardware to test with
    def test_qatzip_in_software(make_stunt):
        with moved(make_stunt, "qat:software", memory=48 * MIB) as (report, _):
            (device,) = report["accel"]["devices"]
            assert device["software"] and device["batches"] > 10 and report["accel"]["fallbacks"] == 0


    def test_qatzip_in_software_at_both_ends(make_stunt):
        with moved(make_stunt, "qat:software", memory=48 * MIB,
                   receive_settings={"accel-devices": "qat:software"}) as (report, _):
            assert report["accel"]["devices"][0]["batches"] > 10


def test_a_device_that_is_not_there_is_refused(make_stunt, shm):
    source = make_stunt(name="src", memory=16 * MIB)
    there = make_stunt.destination(source)
    settings = {"compression": "qat", "accel-devices": f"emulated:{shm}/none.sock"}
    with gw.Migration(source, there, settings=settings) as migration:
        sent = migration.send.wait(20)
        assert sent.code in (1, 2) and "none.sock" in sent.stderr
    assert source.qmp.status() == "running"


def test_qat_without_any_device_is_refused(make_stunt):
    source = make_stunt(name="src", memory=16 * MIB)
    there = make_stunt.destination(source)
    with gw.Migration(source, there, settings={"compression": "qat"}) as migration:
        sent = migration.send.wait(20)
        assert sent.code in (1, 2) and "qat" in sent.stderr.lower()
    assert source.qmp.status() == "running"
