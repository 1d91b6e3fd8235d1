# SPDX-License-Identifier: Apache-2.0
"""pytest in lanes: files of tests side by side, as most tests wait most of the time.

A lane has a network of its own, as ports are the same everywhere, and all but the first have ledgers of their own. What
is marked `alone` (pytest.ini) measures time or a share of a CPU: it runs by itself when the lanes are done."""
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

GUESS, GUESS_BOOTED = 2, 12  # seconds that a test takes of which nothing is known; one that boots a guest
OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]


class Job:
    """Tests that one pytest runs.

    args     what pytest gets
    count    how many tests these are
    seconds  that they took last time, or a guess
    """

    def __init__(self, name, args, count, seconds):
        self.name, self.args, self.count, self.seconds = name, args, count, seconds
        self.process, self.began = None, None

    def path(self, directory, kind):
        return os.path.join(directory, f"{self.name.replace('/', '.')}.{kind}")


def collect(root, env, *args):
    """{file: number of tests}, or None when pytest cannot say."""
    done = subprocess.run([*PYTEST, "--collect-only", "-qq", *args], cwd=root, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 5):
        print(done.stdout, done.stderr, sep="\n", flush=True)
        return None
    return {file: int(count) for file, count in re.findall(r"^(\S+\.py): (\d+)$", done.stdout, re.M)}


def guess(file, count):
    """Seconds that `count` tests of a file may take."""
    with open(file, encoding="utf-8") as text:
        return count * (GUESS_BOOTED if "make_guest" in text.read() else GUESS)


def seconds_of(path):
    """Seconds that a pytest of an earlier run took, by its JUnit file; None when there is none."""
    try:
        return sum(float(case.get("time")) for case in ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return None


def missing_network():
    """Whether a process cannot have a network of its own here."""
    return subprocess.run([*OWN_NETWORK, "true"], capture_output=True, check=False).returncode != 0


class Lanes:
    """Runs jobs in `count` lanes. JUnit files and outputs are left in `directory`."""

    def __init__(self, root, directory, count, deadline):
        """deadline: of time.monotonic(); what runs then is interrupted, so that fixtures clean up."""
        self._root, self._directory, self._deadline = root, directory, deadline
        self._own_network = not missing_network()
        self._jobs = [None] * (count if self._own_network else 1)
        self._ledgers = {}
        os.makedirs(directory, exist_ok=True)

    def run(self, jobs):
        """Until all have ended, or it is too late. The longest first, so that no lane is left alone with it."""
        waiting = sorted(jobs, key=lambda job: job.seconds, reverse=True)
        try:
            while (waiting or any(self._jobs)) and time.monotonic() < self._deadline:
                for lane, job in enumerate(self._jobs):
                    if job is not None and job.process.poll() is not None:
                        self._say(job)
                        self._jobs[lane] = None
                    if self._jobs[lane] is None and waiting:
                        self._jobs[lane] = self._start(lane, waiting.pop(0))
                time.sleep(0.05)
        finally:
            for job in filter(None, self._jobs):
                self._interrupt(job)
            for path in self._ledgers.values():
                shutil.rmtree(path, ignore_errors=True)

    def _start(self, lane, job):
        job.began = time.monotonic()
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        if lane > 0:
            if lane not in self._ledgers:
                self._ledgers[lane] = tempfile.mkdtemp(prefix="godwit-lane-", dir="/run")
            env["GODWIT_RUN"] = self._ledgers[lane]
        # A test that hangs says where, long before the whole run is ended.
        command = [*PYTEST, "-q", "-ra", "-o", "faulthandler_timeout=300",
                   f"--junitxml={job.path(self._directory, 'xml')}", *job.args]
        print("+", shlex.join(command), flush=True)
        with open(job.path(self._directory, "log"), "wb") as log:
            job.process = subprocess.Popen((OWN_NETWORK if self._own_network else []) + command, cwd=self._root, env=env,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return job

    def _interrupt(self, job):
        print(f"run-tests: {job.name} was not ready in time", flush=True)
        job.process.send_signal(signal.SIGINT)
        try:
            job.process.wait(60)
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
        self._say(job)

    def _say(self, job):
        with open(job.path(self._directory, "log"), encoding="utf-8", errors="replace") as log:
            print(log.read(), end="", flush=True)
        print(f"{job.name}: exit status {job.process.returncode}, {time.monotonic() - job.began:.0f} s\n", flush=True)


def plan(root, directory, tests):
    """(jobs for lanes, jobs to run alone), or None when pytest cannot collect the tests."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    whole, alone = collect(root, env, *tests), collect(root, env, "-m", "alone", *tests)
    if not whole or alone is None:
        return None
    jobs = []
    for file, count in whole.items():
        if count > alone.get(file, 0):
            job = Job(file, ["-m", "not alone", file], count - alone.get(file, 0), 0)
            job.seconds = seconds_of(job.path(directory, "xml")) or guess(os.path.join(root, file), job.count)
            jobs.append(job)
    lonely = [Job("alone", ["-m", "alone", *alone], sum(alone.values()), 0)] if alone else []
    for path in glob.glob(os.path.join(directory, "*.xml")):
        os.remove(path)  # what an earlier run wrote must not be counted when this one dies
    return jobs, lonely


def merge(directory, jobs, report):
    """One JUnit file of all jobs. Returns sentences about tests that are not in it."""
    whole, faults = ElementTree.Element("testsuites"), []
    for job in jobs:
        try:
            suites = ElementTree.parse(job.path(directory, "xml")).getroot()
        except (OSError, ElementTree.ParseError):
            faults.append(f"{job.name}: {job.count} tests did not report")
            continue
        whole.extend(suites)
        for suite in suites:  # a test that was interrupted leaves a case without a name and without an outcome
            for case in [case for case in suite.findall("testcase") if not case.get("name")]:
                suite.remove(case)
        cases = sum(1 for _ in suites.iter("testcase"))
        if cases < job.count:
            faults.append(f"{job.name}: {cases} of {job.count} tests ran")
        elif job.process.returncode not in (0, 1):
            faults.append(f"{job.name}: pytest ended with {job.process.returncode}")
    ElementTree.ElementTree(whole).write(report)
    return faults
