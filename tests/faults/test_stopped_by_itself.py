# SPDX-License-Identifier: Apache-2.0
"""A guest that stops by itself while its memory is sent stays what it is: here, and by name."""
import os

from monitor import Rule
from scene import BY_MIGRATE, PATIENCE, wait_until

# Waits for two seconds and switches the machine off: mov cx:dx, 2000000; mov ah, 86h; int 15h; out 604h, 2000h
SWITCHES_OFF = bytes.fromhex("b91e00 ba8084 b486 cd15 ba0406 b80020 ef f4 ebfd".replace(" ", ""))


def boot_disk(shm):
    path = os.path.join(shm, "boot")
    with open(path, "wb") as file:
        file.write((SWITCHES_OFF + bytes(510 - len(SWITCHES_OFF)) + b"\x55\xaa").ljust(1 << 20, b"\0"))
    return path


def test_a_guest_that_is_switched_off_meanwhile(make_real, shm):
    extra = ("-no-shutdown", "-drive", f"file={boot_disk(shm)},format=raw,if=ide,file.locking=off,readonly=off")
    scene = make_real(extra=extra)
    there = scene.spare()
    migration = scene.migrate(there, fault="hold@iterate=6000")
    migration.send.wait_event(event="stage", stage="iterate")
    wait_until(lambda: scene.source.qmp.status() == "shutdown", "the guest switches itself off")
    sent = migration.send.wait(PATIENCE)
    assert sent.code == 1 and sent.report["error"]["class"] == "refused", sent
    assert "has stopped by itself" in sent.report["error"]["desc"] and '"shutdown"' in sent.report["error"]["desc"]
    assert "the guest stays at the source" in sent.stderr, sent.stderr
    scene.wait_gone()
    assert scene.source.qmp.status() == "shutdown"
    assert there.qmp.status() == "inmigrate", "the destination's VMM was not touched"


@BY_MIGRATE
def test_a_guest_that_is_switched_off_as_it_is_stopped(make_real):
    """Between QEMU's `migrate` and its own stop. What it was it is only told by: an event."""
    scene = make_real(extra=("-no-shutdown", "-no-reboot"))
    monitor = scene.watch(scene.source, Rule("migrate", hang=True, does="system_reset"))
    sent = scene.migrate(scene.spare(), source_monitor=monitor).send.wait(PATIENCE)
    assert sent.code == 1 and sent.report["error"]["class"] == "refused", sent
    assert "has stopped by itself (SHUTDOWN)" in sent.report["error"]["desc"], sent
    assert "the guest stays at the source" in sent.stderr, sent.stderr
    scene.wait_gone()
    assert scene.source.qmp.status() in ("shutdown", "postmigrate") and monitor.seen["cont"] == 0


def test_a_guest_that_is_only_asked_to_switch_itself_off(make_real):
    """A watchdog with the action "shutdown" presses the power button: the guest runs on, and does so elsewhere."""
    def rewrite(line):
        event = b'{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "WATCHDOG", "data": {"action": "shutdown"}}\r\n'
        return event + line if b'"MIGRATION"' in line and b'"active"' in line else line

    scene = make_real()
    there = scene.spare()
    scene.migrate(there, source_monitor=scene.watch(scene.source, rewrite=rewrite)).complete(PATIENCE)
