# SPDX-License-Identifier: Apache-2.0
"""What a shell or a service manager may leave to a godwit: closed descriptors, files that may not grow."""
import os
import subprocess

import pytest

from gwtest import engine as gw, places
from scene import PATIENCE, wait_until


def link_of(pid, fd):
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_standard_descriptors(make_scene, closed):
    """They would be the first sockets that are opened, and what is printed would go into the migration."""
    scene = make_scene()
    there = scene.spare()
    port = next(gw._ports)
    closing = " ".join(f"{fd}>&-" for fd in closed.split())

    def start(*words):
        line = " ".join([places.godwit(), *words, closing])
        return subprocess.Popen(["sh", "-c", "exec " + line], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    receive = start("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}", "--json", "-v", "-v")
    send = start("send", "--qmp", scene.source.qmp_path, "--to", f"tcp:127.0.0.1:{port}", "--wait", "30", "--json", "-v",
                 "-v", "--set", "max-bandwidth=20M")
    for child in (receive, send):  # its descriptors may be those of the shell still
        for fd in closed.split():
            wait_until(lambda: child.poll() is not None or link_of(child.pid, fd) == "/dev/null", f"{fd} is filled")
            assert child.poll() is None
    assert send.wait(PATIENCE) == 0 and receive.wait(PATIENCE) == 0


def test_an_events_file_that_may_not_grow(make_scene):
    """SIGXFSZ would end it in the middle of a migration."""
    scene = make_scene()
    there = scene.spare()
    port = next(gw._ports)
    with gw.Engine("receive", "--qmp", there.qmp_path, "--listen", f"tcp:127.0.0.1:{port}") as receive:
        receive.wait_listening(port)
        path = os.path.join(os.path.dirname(receive.events_path), "small")
        with open(path, "wb") as file:
            file.write(b"\n" * (1 << 20))
        send = subprocess.run(["prlimit", "--fsize=1048576", "--", places.godwit(), "send", "--qmp", scene.source.qmp_path, "--to",
                               f"tcp:127.0.0.1:{port}", "--events", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=PATIENCE, check=False)
        assert send.returncode == 0 and receive.wait(PATIENCE).code == 0, send
        assert send.stderr.count("events are lost: the file takes no more of them: File too large") == 1, send.stderr
        assert os.path.getsize(path) == 1 << 20
