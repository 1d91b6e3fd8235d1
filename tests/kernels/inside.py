# SPDX-License-Identifier: Apache-2.0
"""Runs in the booted kernel: inside.py DISK

The disk has the job, an object of JSON with: `parts`, a list out of PARTS; `command`, what a shell is to run instead, or
null; `patience`, a factor for everything that tests wait for; `pytest`, arguments of pytest. results.json, and files with
what was said, are written over it as a tar archive."""
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
import xml.etree.ElementTree as ElementTree

BUILD = "/root/godwit/build"
LOGS = "/tmp/results"
LONGEST = 120  # seconds that a program of platform tests may take on a machine of its own


def say(*words):
    print("test-kernels:", *words, flush=True)


def case(part, name, outcome, reason, seconds):
    """outcome: passed, failed or skipped."""
    word = "" if outcome == "passed" else f"{outcome}: "
    say(f"{part} {name}: {word}{reason or outcome}, {seconds:.1f} s")
    return {"part": part, "name": name, "outcome": outcome, "reason": reason, "seconds": round(seconds, 1)}


def log_path(name):
    return os.path.join(LOGS, name)


def last_words(lines):
    return " | ".join(line for line in lines[-8:] if line)[-300:]


def cases_of(name, lines, status):
    """What a program of cmocka's said in TAP, as (seconds since the line before, line). A skip's reason stands before
    the line of its case, what was wrong with one that failed behind it."""
    found, skip, seconds, count = [], "for no reason that it gave", 0.0, 0
    for at, (took, line) in enumerate(lines):
        seconds += took
        if line.startswith("1.."):
            count = int(line[3:])
        if line.startswith("SKIP: "):
            skip = line[len("SKIP: "):]
        if re.match(r"(not )?ok \d", line):
            label = f"{name}: " + re.sub(r"^(not )?ok \d+|[-#]|SKIP", " ", line).strip()
            if "# SKIP" in line:  # "not ok" before it, or "ok", by the version of cmocka
                found.append(case("platform", label, "skipped", skip, seconds))
            elif line.startswith("not"):
                behind = itertools.takewhile(lambda pair: pair[1].startswith("# "), lines[at + 1:])
                found.append(case("platform", label, "failed", last_words([text for _, text in behind]), seconds))
            else:
                found.append(case("platform", label, "passed", "", seconds))
            skip, seconds = "for no reason that it gave", 0.0
    failed = any(c["outcome"] == "failed" for c in found)
    if count == 0 or len(found) < count or status != 0 and not failed:
        words = last_words([text for _, text in lines])
        found.append(case("platform", name, "failed", f"{len(found)} of {count} tests reported, it ended with {status}: "
                          f"{words}", seconds))
    return found


def timed_lines(command, env, limit, log):
    """Runs it. Returns [(seconds since the line before, line)] and the exit status; after `limit` seconds that of SIGKILL."""
    lines = []
    program = subprocess.Popen(["stdbuf", "-oL", "-eL", *command], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    killer = threading.Timer(limit, program.kill)
    killer.start()
    before = time.monotonic()
    for raw in program.stdout:
        log.write(raw)
        now = time.monotonic()
        lines.append((now - before, raw.decode(errors="replace").rstrip()))
        before = now
    status = program.wait()
    killer.cancel()
    return lines, status


def platform(job, env):
    cases = []
    directory = os.path.join(BUILD, "tests", "platform")
    env = {**env, "CMOCKA_MESSAGE_OUTPUT": "TAP"}
    for name in sorted(os.listdir(directory)):
        with open(log_path(name), "wb") as log:
            lines, status = timed_lines([os.path.join(directory, name)], env, LONGEST * job["patience"], log)
        cases += cases_of(name[len("platform-"):], lines, status)
    return cases


def junit_cases(path):
    for item in ElementTree.parse(path).iter("testcase"):
        name = f"{(item.get('classname') or '').rpartition('.')[2]}: {item.get('name')}"
        bad = item.find("failure") if item.find("failure") is not None else item.find("error")
        skipped = item.find("skipped")
        if bad is not None:
            yield name, "failed", (bad.get("message") or "")[:300].replace("\n", " "), float(item.get("time"))
        elif skipped is not None:
            yield name, "skipped", skipped.get("message") or "for no reason that it gave", float(item.get("time"))
        else:
            yield name, "passed", "", float(item.get("time"))


def moves(job, env):
    report = log_path("pytest.xml")
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "-m", "kernels",
               f"--junitxml={report}", *job["pytest"]]
    with open(log_path("pytest"), "w+b") as log:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        for line in process.stdout:
            log.write(line)
            print(line.decode(errors="replace").rstrip(), flush=True)
        status = process.wait()
    try:
        cases = [case("moves", *found) for found in junit_cases(report)]
    except (OSError, ElementTree.ParseError):
        cases = []
    if not cases or status not in (0, 1):
        cases.append(case("moves", "pytest", "failed", f"it ended with {status}", 0))
    return cases


PARTS = {"platform": platform, "moves": moves}


def probe(env):
    done = subprocess.run([os.path.join(BUILD, "godwit"), "probe", "--json"], env=env, capture_output=True, text=True,
                          check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": done.stderr or f"ended with {done.returncode}"}


def work(job):
    env = {**os.environ, "GODWIT_BUILD": BUILD, "GODWIT_PATIENCE": str(job["patience"])}
    results = {"release": os.uname().release, "cases": []}
    say("Linux", results["release"])
    if job["command"]:
        results["status"] = subprocess.run(["sh", "-c", job["command"]], env=env, check=False).returncode
        return results
    results["probe"] = probe(env)
    for part in job["parts"]:
        began = time.monotonic()
        results["cases"] += PARTS[part](job, env)
        say(f"{part}: {time.monotonic() - began:.0f} s")
    return results


def main():
    with open(sys.argv[1], "rb") as disk:
        job = json.loads(disk.read(1 << 16).rstrip(b"\0"))
    os.makedirs(LOGS)
    results = work(job)
    with open(log_path("results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file)
    with open(sys.argv[1], "r+b") as disk, tarfile.open(fileobj=disk, mode="w|") as archive:
        for name in os.listdir(LOGS):
            archive.add(log_path(name), name)


if __name__ == "__main__":
    main()
