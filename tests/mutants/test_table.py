# SPDX-License-Identifier: Apache-2.0
"""The table of mutations fits the tree: each text is there once, each test is there. Running it is `make mutants`."""
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_every_entry_applies():
    done = subprocess.run([os.path.join(ROOT, "scripts", "mutants"), "--check"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_enough():
    done = subprocess.run([os.path.join(ROOT, "scripts", "mutants"), "--list"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) >= 42
