# SPDX-License-Identifier: Apache-2.0
"""Guests whose godwit talks to a scripted peer."""
import shutil
import tempfile

import pytest

from gwtest import places, stunt
from gwtest.peer_source import rehearse
from gwtest.qemu import MIB

# The guest that a scripted source plays: it writes nothing, so its part is the same in every test.
PLAYED = {"memory": 32 * MIB, "fill": 10, "load": None}


@pytest.fixture(scope="session")
def part():
    """What a source says of such a guest, learned once."""
    for missing in (places.missing_stunt(), places.missing_engine()):
        if missing:
            pytest.skip(missing)
    directory = tempfile.mkdtemp(prefix="gwtest-", dir="/dev/shm")
    try:
        with stunt.Stunt(directory, **PLAYED) as guest:
            return rehearse(guest)
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def actor(make_scene, part):
    """A scene with such a guest; `part` is what a Source says of it."""
    scene = make_scene(**PLAYED)
    scene.part = part
    return scene
