# SPDX-License-Identifier: Apache-2.0
"""Documents that cannot rot: every option and parameter is in --help and in its man page, every fault is written down."""
import os
import re
import subprocess

import pytest

from gwtest import places, wire

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = {"send": "godwit-send", "receive": "godwit-receive", "relay": "godwit-relay", "probe": "godwit-probe", "check": "godwit-check", "predict": "godwit-predict", "bench": "godwit-bench",
         "status": "godwit-status", "set": "godwit-status", "cancel": "godwit-status", "resolve": "godwit-resolve"}


def text_of(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def page(name):
    return text_of("docs", "man", name + ".1").replace("\\-", "-")


def godwit(*args):
    return subprocess.run([places.godwit(), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def help_of(command):
    result = godwit(command, "--help")
    assert result.returncode == 0 and result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("command", PAGES)
def test_options_are_in_help_and_page(engine, command):
    shown = help_of(command)
    manual = page(PAGES[command])
    options = set(re.findall(r"--[a-z][a-z-]*[a-z]", shown))
    assert options
    assert options <= set(re.findall(r"--[a-z][a-z-]*[a-z]", manual))
    # and what the page has, the program takes
    for option in set(re.findall(r"--[a-z][a-z-]*[a-z]", manual.split(".SH OPTIONS")[1].split(".SH ")[0])):
        result = godwit(command, option)
        assert "unrecognized option" not in result.stderr, option


def test_parameters_are_in_the_page(engine):
    shown = help_of("send").split("Parameters:\n")[1]
    names = re.findall(r"^  ([a-z0-9-]+) ", shown, re.M)
    assert "downtime-limit" in names and len(names) >= 10
    manual = page("godwit-send")
    assert [n for n in names if f".BR {n} " not in manual] == []


def test_commands_are_in_help_and_page(engine):
    shown = godwit("--help").stdout
    commands = re.findall(r"^  ([a-z]+)  ", shown, re.M)
    assert set(commands) == set(PAGES)
    assert all(f"godwit-{c}" in page("godwit") for c in commands)
    assert all(os.path.exists(os.path.join(ROOT, "docs", "man", f"godwit-{c}.1")) for c in commands)


@pytest.mark.parametrize("args, why", [
    ((), "Usage"), (("fly",), "no command"), (("send",), "--qmp is missing"),
    (("send", "--qmp", "x"), "--to is missing"), (("receive", "--qmp", "x"), "--listen is missing"),
    (("send", "--qmp", "x", "--to", "nowhere"), "not an address"),
    (("send", "--qmp", "x", "--to", "tcp:h:1", "--set", "channels=65"), "0..64"),
    (("send", "--qmp", "x", "--to", "tcp:h:1", "--set", "speed=1"), "no parameter 'speed'"),
    (("send", "--qmp", "x", "--to", "tcp:h:1", "--set", "autostart=maybe"), "off, on"),
    (("send", "--qmp", "x", "--to", "tcp:h:1", "extra"), "what is 'extra' for"),
    (("cancel",), "Usage"), (("set", "--control", "x"), "Usage"), (("set", "--control", "x", "noequals"), "Usage")])
def test_wrong_use_is_2_and_says_why(engine, args, why):
    result = godwit(*args)
    assert result.returncode == 2 and why in result.stderr and result.stdout == ""


def test_nobody_at_the_monitor(engine, tmp_path):
    result = godwit("send", "--qmp", str(tmp_path / "none"), "--to", "tcp:127.0.0.1:1", "--json")
    assert result.returncode == 1 and '"status": "failed"' in result.stdout


def test_faults_are_written_down():
    used = set()
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            if name.endswith(".c"):
                used |= set(re.findall(r'fault_(?:planned|value|value_at)\(\s*"([a-z-]+)"', text_of(folder, name)))
    written = set(re.findall(r"`([a-z-]+)`", text_of("docs", "faults.md")))
    assert used and used <= written


def test_fuzz_seeds_speak_this_protocol():
    """Seeds of an older one are thrown away at their first bytes, and fuzz nothing."""
    seeds = os.path.join(ROOT, "tests", "fuzz", "corpus", "frame")
    for name in os.listdir(seeds):
        with open(os.path.join(seeds, name), "rb") as file:
            assert file.read(4) == wire.FRAME_MAGIC, name
