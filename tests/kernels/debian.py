# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian's suites, as files that QEMU boots: fetched as packages, never installed."""
import glob
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "guest"))

import initramfs  # noqa: E402

SUITES = ["bookworm", "trixie", "sid"]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The one for real machines: hosts of guests are that, and the cloud's has less in it.
META = "linux-image-amd64"
# sid has the kernel, its modules, and what tells about both in packages of their own.
PARTS = re.compile(r"^Inst (linux-(?:base|image|binary|modules)-[0-9]\S*)", re.M)
# What is not in the kernel itself: its disks and their file systems; what two hosts in one machine are made of.
MODULES = ["virtio_pci", "virtio_blk", "virtio_rng", "ext4", "crc32c_generic", "overlay", "veth", "sch_tbf", "fuse"]
# Gone from newer kernels, which need them no more.
GONE = {"crc32c_generic"}
DIRECTORIES = ["bin", "dev", "modules", "proc", "sys", "lower", "tree", "over", "root"]
APPLETS = ["sh", "mount", "insmod", "mkdir", "switch_root", "sleep", "ls", "ln", "chmod"]


def _run(*command, **options):
    """What it prints; its complaints are shown when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"test-kernels: {' '.join(command)}: {done.stderr}{done.stdout}")
    return done.stdout


class _Apt:
    """apt with the host's settings and keys, one suite's sources, and no installed package."""

    def __init__(self, directory, suite):
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(directory, name))
        with open(os.path.join(directory, "sources.list"), "w", encoding="ascii") as file:
            for line in _run(os.path.join(ROOT, "scripts", "mirrors"), suite).splitlines():
                file.write(f"deb [arch=amd64 signed-by={KEYS}] {line} main\n")
        with open(os.path.join(directory, "status"), "w", encoding="ascii"):
            pass
        self._options = []
        for name, value in {"Dir::Etc::SourceList": "sources.list", "Dir::State::Lists": "lists", "Dir::Cache": "cache",
                            "Dir::State::status": "status"}.items():
            self._options += ["-o", f"{name}={os.path.join(directory, value)}"]
        # What is fetched into a directory of root's cannot be fetched as anybody else.
        self._options += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Sandbox::User=root",
                          "-o", "Acquire::Retries=3"]

    def get(self, *args, **options):
        return _run("apt-get", *self._options, "-q", *args, **options)


def _fetch(suite, directory):
    """The packages of the suite's newest kernel, into an empty directory."""
    with tempfile.TemporaryDirectory(prefix="gwtest-apt-") as scratch:
        apt = _Apt(scratch, suite)
        apt.get("update")
        names = PARTS.findall(apt.get("-s", "--no-install-recommends", "install", META))
        if not names:
            sys.exit(f"test-kernels: {suite} has no {META} to install")
        apt.get("download", *names, cwd=directory)


def _packages(suite, directory, fresh):
    """Paths of the kernel's packages; fetched when there are none or when they are to be looked for anew."""
    kept = os.path.join(directory, "packages")
    if fresh or not os.path.isdir(kept):
        print(f"test-kernels: fetching the kernel of {suite}", flush=True)
        shutil.rmtree(kept + ".part", ignore_errors=True)
        os.makedirs(kept + ".part")
        _fetch(suite, kept + ".part")
        shutil.rmtree(kept, ignore_errors=True)
        os.rename(kept + ".part", kept)
    return sorted(glob.glob(os.path.join(kept, "*.deb")))


def _modules(unpacked, release):
    """Paths of what init loads, in order."""
    base = os.path.join(unpacked, "usr") if os.path.isdir(os.path.join(unpacked, "usr/lib/modules")) else unpacked
    _run("depmod", "-b", base, release)
    tree = os.path.join(base, "lib/modules", release)
    with open(os.path.join(tree, "modules.builtin"), encoding="ascii") as file:
        known = file.read()
    paths = initramfs.module_files(tree, MODULES)
    known = {re.sub(r"\.ko.*", "", os.path.basename(p)).replace("-", "_") for p in known.split() + paths}
    missing = set(MODULES) - GONE - known
    if missing:
        sys.exit(f"test-kernels: Linux {release} has no {', '.join(sorted(missing))}")
    return paths


def _image(unpacked):
    """(path, release) of the kernel itself, which newer packages have beside its modules."""
    found = glob.glob(os.path.join(unpacked, "boot/vmlinuz-*"))
    if found:
        return found[0], os.path.basename(found[0])[len("vmlinuz-"):]
    found = glob.glob(os.path.join(unpacked, "usr/lib/modules/*/vmlinuz"))
    if not found:
        sys.exit(f"test-kernels: no vmlinuz in the packages of {os.path.basename(os.path.dirname(unpacked))}")
    return found[0], os.path.basename(os.path.dirname(found[0]))


def _unpack(packages, directory):
    """vmlinuz and initramfs.gz of these packages, into `directory`."""
    with tempfile.TemporaryDirectory(prefix="gwtest-kernel-", dir=os.path.dirname(directory)) as unpacked:
        for package in packages:
            _run("dpkg-deb", "-x", package, unpacked)
        image, release = _image(unpacked)
        cpio = initramfs.begin(DIRECTORIES, APPLETS)
        initramfs.add_modules(cpio, _modules(unpacked, release))
        initramfs.add_file(cpio, "init", os.path.join(HERE, "init"))
        shutil.copyfile(image, os.path.join(directory, "vmlinuz"))
        with open(os.path.join(directory, "initramfs.gz"), "wb") as file:
            file.write(gzip.compress(cpio.finish(), compresslevel=1, mtime=0))


def digest(paths, *more):
    """Of files' contents and of texts."""
    total = hashlib.sha256(repr(more).encode())
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.sha256(file.read()).digest())
    return total.hexdigest()


class Kernel:
    """`suite`, the package's `version`, and the paths of what boots: `image`, `initrd`."""

    def __init__(self, suite, directory, packages):
        self.suite = suite
        # NAME_VERSION_amd64.deb
        self.version = os.path.basename(packages[0]).split("_")[1]
        self.image, self.initrd = (os.path.join(directory, name) for name in ("vmlinuz", "initramfs.gz"))


def kernel(suite, cache, fresh=False):
    """The Kernel of a suite; `cache` is a directory where packages are kept. `fresh` asks the mirror for a newer one."""
    directory = os.path.join(cache, suite)
    os.makedirs(directory, exist_ok=True)
    packages = _packages(suite, directory, fresh)
    made_from = digest(packages + [os.path.join(HERE, "init"), initramfs.__file__, initramfs.busybox()],
                       MODULES, DIRECTORIES, APPLETS)
    stamp = os.path.join(directory, "made-from")
    if not os.path.exists(stamp) or open(stamp, encoding="ascii").read() != made_from:
        if os.path.exists(stamp):
            os.unlink(stamp)
        _unpack(packages, directory)
        with open(stamp, "w", encoding="ascii") as file:
            file.write(made_from)
    return Kernel(suite, directory, packages)
