# SPDX-License-Identifier: Apache-2.0
"""Files of tests side by side: what scripts/run-tests does with pytest. No test gets lost on the way."""
import os
import time
import xml.etree.ElementTree as ElementTree

import pytest

import lanes

LISTEN = """
import os, socket, time
def test_it():
    # The same port in both, and both at once.
    with socket.create_server(("127.0.0.1", 47001)):
        open(os.environ["LANES_TEST"] + "/" + __name__, "w").close()
        deadline = time.monotonic() + 30
        while len(os.listdir(os.environ["LANES_TEST"])) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
"""
ALONE = """
import os, pytest
@pytest.mark.alone
def test_alone():
    assert len(os.listdir(os.environ["LANES_TEST"])) == 2
"""


@pytest.fixture
def tree(tmp_path, monkeypatch, root):
    """tree(name=text of a file of tests, ...): (jobs for lanes, jobs to run alone, Lanes, path of the report)."""
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("LANES_TEST", str(seen))

    def make(deadline=60, **files):
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone: x\n", encoding="ascii")
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(text, encoding="ascii")
        out = str(tmp_path / "out")
        beside, alone = lanes.plan(str(tmp_path), out, ["."])
        runner = lanes.Lanes(str(tmp_path), out, 2, time.monotonic() + deadline)
        return beside, alone, runner, out
    return make


def outcome(out, jobs):
    """(names of tests that passed, what is said of those that did not report)"""
    report = os.path.join(out, "report")
    faults = lanes.merge(out, jobs, report)
    cases = ElementTree.parse(report).iter("testcase")
    return sorted(case.get("name") for case in cases if len(case) == 0), faults


def test_files_run_side_by_side_and_one_test_alone(tree):
    """Each with a network of its own; behind them what is to have nothing beside it."""
    beside, alone, runner, out = tree(a=LISTEN, b=LISTEN + ALONE)
    assert sum(job.count for job in beside + alone) == 3
    runner.run(beside)
    assert outcome(out, beside) == (["test_it", "test_it"], [])
    runner.run(alone)
    assert outcome(out, beside + alone) == (["test_alone", "test_it", "test_it"], [])


@pytest.mark.parametrize("text", ["import os\ndef test_a(): pass\ndef test_b(): os._exit(0)",
                                  "import os, signal\ndef test_a(): os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_file_that_dies_is_missed(tree, text):
    beside, _, runner, out = tree(dies=text, lives="def test_x(): pass")
    runner.run(beside)
    passed, faults = outcome(out, beside)
    assert passed == ["test_x"] and len(faults) == 1 and "test_dies.py" in faults[0] and "did not report" in faults[0]


def test_what_is_not_ready_in_time_is_missed(tree):
    beside, _, runner, out = tree(deadline=3, a="def test_x(): pass", b="import time\ndef test_b(): time.sleep(100)",
                                  c="import time\ndef test_c(): time.sleep(100)", d="def test_d(): pass")
    for job in beside:
        job.seconds = {"test_a.py": 4, "test_b.py": 3, "test_c.py": 2, "test_d.py": 1}[job.name]
    runner.run(beside)
    passed, faults = outcome(out, beside)
    assert passed == ["test_x"] and sorted(f.partition(":")[0] for f in faults) == ["test_b.py", "test_c.py", "test_d.py"]


def test_a_failure_is_in_the_report(tree):
    beside, _, runner, out = tree(a="def test_x(): assert False\ndef test_y(): pass")
    runner.run(beside)
    assert outcome(out, beside) == (["test_y"], [])
    tree_ = ElementTree.parse(os.path.join(out, "report"))
    assert [case.get("name") for case in tree_.iter("testcase") if case.find("failure") is not None] == ["test_x"]


def test_tests_that_cannot_be_collected(tree, tmp_path):
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name", encoding="ascii")
    assert lanes.plan(str(tmp_path), str(tmp_path / "out"), ["."]) is None
