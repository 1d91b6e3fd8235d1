# SPDX-License-Identifier: Apache-2.0
"""The table of mutations: rules of the tree, each broken in the smallest way, and the tests that must fail then.

A text is as short as it can be and still be there once in its file; test_table.py sees that it is. Whoever rewrites
a rule rewrites its row; whoever makes a new one (docs/correctness.md) adds one.
"""
import dataclasses


@dataclasses.dataclass
class Mutant:
    """`name` is what scripts/mutants takes; `rule` is what is broken by putting `instead` where `text` is.

    tests  "meson:NAME" or a test function of pytest, as "tests/…/test_x.py::test_y", all parameters of it or one: each of
           them must fail
    """
    name: str
    rule: str
    file: str
    text: str
    instead: str
    tests: list


def table(room, prefix, *rows):
    """Rows of (name, rule, file, text, instead, *tests); files are below `prefix`."""
    return [Mutant(f"{room}-{name}", rule, prefix + file, text, instead, list(tests))
            for name, rule, file, text, instead, *tests in rows]


import accel  # noqa: E402
import destination  # noqa: E402
import ground  # noqa: E402
import memory  # noqa: E402
import relay  # noqa: E402
import save  # noqa: E402
import source  # noqa: E402
import talk  # noqa: E402
import tracking  # noqa: E402
import vmm  # noqa: E402

MUTANTS = [*talk.MUTANTS, *memory.MUTANTS, *destination.MUTANTS, *source.MUTANTS, *vmm.MUTANTS,
           *accel.MUTANTS, *ground.MUTANTS, *tracking.MUTANTS, *save.MUTANTS, *relay.MUTANTS]
