# SPDX-License-Identifier: Apache-2.0
"""Disks for a booted kernel: a small Debian with what the tests need, and the tree with what was built of it."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

from debian import HERE, ROOT, SUITES, digest

MIB = 1 << 20
PACKAGES = ["libcmocka-dev", "zlib1g-dev", "python3", "python3-pytest", "qemu-system-x86", "iproute2", "procps", "kmod",
            "util-linux"]
# What is only read by people, or by apt.
LEFT_OUT = ["./root/godwit", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*",
            "./usr/share/locale/*", "./usr/include/*"]
# Of the build directory: programs that tests run.
PROGRAMS = ["godwit", "tests/platform/platform-*", "tests/stunt/stunt", "tests/accel/emulated-accel", "tests/kernels/*"]


def own_suite():
    """The suite that this host runs: what was built here needs its libraries."""
    with open("/etc/os-release", encoding="utf-8") as file:
        settings = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    name = settings.get("VERSION_CODENAME", "").strip('"')
    if settings.get("ID") != "debian":
        sys.exit("test-kernels: this takes a Debian host")
    return name if name in SUITES else "sid"


def _make_image(directory, path, room):
    """An ext4 image of a directory with `room` bytes to spare."""
    used = int(subprocess.run(["du", "-s", "-B1", directory], check=True, stdout=subprocess.PIPE).stdout.split()[0])
    size = (used + used // 8 + room) // MIB
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", directory, path, f"{size}M"],
                   check=True, stdout=subprocess.DEVNULL)


def _packages():
    listed = subprocess.run([os.path.join(ROOT, "scripts/install-deps"), "--build", "--list"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    return [name for name in listed if name.startswith("lib")] + PACKAGES


def _make_root(suite, packages, path):
    install = "apt-get -q update >&2 && apt-get -q install -y --no-install-recommends \"$@\" >&2"
    pack = " ".join(["exec tar -C / --one-file-system", *(f"--exclude='{name}'" for name in LEFT_OUT), "-cf - ."])
    with tempfile.TemporaryDirectory(prefix="gwtest-root-", dir=os.path.dirname(path)) as directory:
        with open(path + ".log", "wb") as log:
            root = subprocess.Popen([os.path.join(ROOT, "scripts/clean-root"), suite, "--", "sh", "-c",
                                     f"{install} && {pack}", "sh", *packages], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=log)
            unpack = subprocess.run(["tar", "-C", directory, "-xpf", "-"], stdin=root.stdout, check=False)
            if root.wait() != 0 or unpack.returncode != 0:
                sys.exit(f"test-kernels: no root could be made; what was said is in {path}.log")
        os.makedirs(os.path.join(directory, "root/godwit"), exist_ok=True)
        _make_image(directory, path, 16 * MIB)


def root(cache, fresh=False):
    """The path of an image that boots with any kernel; made once, and again when what it consists of has changed."""
    suite, packages = own_suite(), _packages()
    path = os.path.join(cache, f"root-{suite}.ext4")
    made_from = digest([], suite, packages, LEFT_OUT)
    stamp = path + ".made-from"
    if fresh or not os.path.exists(stamp) or open(stamp, encoding="ascii").read() != made_from:
        print(f"test-kernels: making a root of {suite}", flush=True)
        if os.path.exists(stamp):
            os.unlink(stamp)
        _make_root(suite, packages, path + ".part")
        os.rename(path + ".part", path)
        with open(stamp, "w", encoding="ascii") as file:
            file.write(made_from)
    return path


def tree(builddir, path):
    """An image of the tree and of the programs that tests run."""
    with tempfile.TemporaryDirectory(prefix="gwtest-tree-") as directory:
        shutil.copytree(ROOT, directory, symlinks=True, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("build", "build-*", ".git", ".cache", "__pycache__", "corpus"))
        for pattern in PROGRAMS:
            for program in glob.glob(os.path.join(builddir, pattern)):
                if os.path.isfile(program) and os.access(program, os.X_OK):
                    to = os.path.join(directory, "build", os.path.relpath(program, builddir))
                    os.makedirs(os.path.dirname(to), exist_ok=True)
                    shutil.copy2(program, to)
        _make_image(directory, path, 4 * MIB)


__all__ = ["HERE", "MIB", "root", "tree"]
