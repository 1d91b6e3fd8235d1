# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests. Equipment: tests/lib/gwtest; guests to which something happens: tests/lib/scene.py."""
import contextlib
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import bare  # noqa: E402
from gwtest import hugepages as huge  # noqa: E402
from gwtest import netns, places, qemu, stunt  # noqa: E402
from gwtest.qemu import MIB, Backend  # noqa: E402
from scene import Scene  # noqa: E402


def pytest_configure(config):
    # A skip that nobody sees is a test that nobody has: always print the reasons.
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


@pytest.fixture
def root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def shm():
    """A directory on tmpfs, for RAM files and sockets."""
    path = tempfile.mkdtemp(prefix="gwtest-", dir="/dev/shm")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def disks():
    """A directory on a disk file system, for images that are opened with O_DIRECT."""
    path = tempfile.mkdtemp(prefix="gwtest-", dir="/var/tmp")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hosts(root):
    """Two hosts with a link as fast as it goes; hosts.rate(bits) shapes it."""
    with netns.Hosts() as pair:
        yield pair


@pytest.fixture
def hugepages(root):
    """hugepages(size) gives huge.HugePages; all is given back after the test."""
    with contextlib.ExitStack() as stack:
        def take(size):
            try:
                return stack.enter_context(huge.HugePages(size))
            except huge.NoHugePages as error:
                pytest.skip(str(error))
        yield take


def factory(kind, directory, stack):
    """A function that makes guests of that kind which end with `stack`."""
    def make(**options):
        guest = kind(**{"directory": directory, **options})
        stack.callback(guest.remove)
        return guest

    def destination(guest, **options):
        copy = guest.destination(**options)
        stack.callback(copy.remove)
        return copy

    make.destination = destination
    return make


@pytest.fixture
def make_guest(shm, hugepages):  # huge pages can be given back only when no guest has them
    """make_guest(**options of qemu.Guest) starts a real guest; make_guest.destination(guest, ...) its destination."""
    reason = places.missing_for_guest()
    if reason:
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield factory(qemu.Guest, shm, stack)


@pytest.fixture
def make_stunt(shm, hugepages):
    """make_stunt(**options of stunt.Stunt) starts a stunt guest; make_stunt.destination(guest, ...) its destination."""
    reason = places.missing_stunt()
    if reason:
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield factory(stunt.Stunt, shm, stack)


@pytest.fixture
def engine():
    """Skips the test when godwit is not built."""
    reason = places.missing_engine()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def stack(shm):
    with contextlib.ExitStack() as stack:
        yield stack


def home_of(shm):
    """A directory where nothing happens but what the source and its godwit do. One for each scene of a test."""
    return tempfile.mkdtemp(prefix="home", dir=shm)


def starter(kind, shm, stack):
    def destination(guest, **options):
        ram = [Backend(b.id, b.size, b.path and os.path.join(shm, f"{options['name']}.{b.id}")) for b in guest.backends]
        copy = guest.destination(**{"directory": shm, "backends": ram, **options})
        stack.callback(copy.remove)
        return copy
    return destination


@pytest.fixture
def device_state(request):
    """How the device state goes in a Scene's migrations; scene.BOTH_WAYS runs a test once for each. Where it is saved
    a stunt's RAM is its own memory, unless the test says what it is: those two belong together. GODWIT_DEVICE_STATE is
    for all tests that do not say it."""
    return getattr(request, "param", os.environ.get("GODWIT_DEVICE_STATE") or None)


@pytest.fixture
def make_scene(root, shm, stack, engine, device_state):
    """make_scene(hosts=None, **options of Stunt): a stunt guest under load."""
    if places.missing_stunt():
        pytest.skip(places.missing_stunt())

    def make(hosts=None, memory=64 * MIB, **options):
        home = home_of(shm)
        if device_state == "save":
            options.setdefault("backends", [Backend("ram0", memory, None)])
        source = stunt.Stunt(home, "source", memory=memory, **options)
        stack.callback(source.remove)
        return Scene(source, home, starter(stunt.Stunt, shm, stack), stack, hosts, device_state)
    return make


@pytest.fixture
def make_bare(root, shm, stack, engine):
    """make_bare(**options of Bare): a QEMU without a guest system."""
    if not shutil.which(places.qemu()):
        pytest.skip(f"no {places.qemu()}")

    def make(directory=shm, name="bare", **options):
        guest = bare.Bare(directory, name=name, **options)
        stack.callback(guest.remove)
        return guest
    return make


@pytest.fixture
def make_real(make_bare, shm, stack, device_state):
    """make_real(hosts=None, **options of Bare): a Scene with a real QEMU."""
    def make(hosts=None, **options):
        home = home_of(shm)
        return Scene(make_bare(directory=home, name="source", **options), home, starter(bare.Bare, shm, stack), stack,
                     hosts, device_state)
    return make
