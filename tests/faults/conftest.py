# SPDX-License-Identifier: Apache-2.0
"""Guests to which something happens. What must be true afterwards: scene.py."""
import contextlib
import os
import shutil
import tempfile

import pytest

import bare
from gwtest import places, stunt
from gwtest.qemu import MIB, Backend
from scene import Scene


@pytest.fixture
def stack(shm):
    with contextlib.ExitStack() as stack:
        yield stack


def home_of(shm):
    """A directory where nothing happens but what the source and its godwit do. One for each scene of a test."""
    return tempfile.mkdtemp(prefix="home", dir=shm)


def starter(kind, shm, stack):
    def destination(guest, **options):
        ram = [Backend(b.id, b.size, os.path.join(shm, f"{options['name']}.{b.id}")) for b in guest.backends]
        copy = guest.destination(directory=shm, **{"backends": ram, **options})
        stack.callback(copy.remove)
        return copy
    return destination


@pytest.fixture
def make_scene(root, shm, stack, engine):
    """make_scene(hosts=None, **options of Stunt): a stunt guest under load."""
    if places.missing_stunt():
        pytest.skip(places.missing_stunt())

    def make(hosts=None, memory=64 * MIB, **options):
        home = home_of(shm)
        source = stunt.Stunt(home, "source", memory=memory, **options)
        stack.callback(source.remove)
        return Scene(source, home, starter(stunt.Stunt, shm, stack), stack, hosts)
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
def make_real(make_bare, shm, stack):
    """make_real(hosts=None, **options of Bare): a Scene with a real QEMU."""
    def make(hosts=None, **options):
        home = home_of(shm)
        return Scene(make_bare(directory=home, name="source", **options), home, starter(bare.Bare, shm, stack), stack,
                     hosts)
    return make
