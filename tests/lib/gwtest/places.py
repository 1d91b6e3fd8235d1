# SPDX-License-Identifier: Apache-2.0
"""Where things are. Every binary can be named by an environment variable."""
import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def patience(seconds):
    """For how long to wait for what only a hang keeps from coming: `seconds` on a machine of today, GODWIT_PATIENCE times
    as long on one that is emulated."""
    return seconds * float(os.environ.get("GODWIT_PATIENCE") or 1)


def build():
    """The meson build directory (GODWIT_BUILD)."""
    return os.environ.get("GODWIT_BUILD") or os.path.join(ROOT, "build")


def godwit():
    return os.environ.get("GODWIT") or os.path.join(build(), "godwit")


def stunt():
    return os.environ.get("STUNT") or os.path.join(build(), "tests", "stunt", "stunt")


def qemu():
    """An absolute path or a name on PATH (GODWIT_QEMU)."""
    name = os.environ.get("GODWIT_QEMU") or "qemu-system-x86_64"
    return shutil.which(name) or name


def accelerator():
    """What -accel gets (GODWIT_ACCEL)."""
    return os.environ.get("GODWIT_ACCEL") or "tcg,thread=multi"


def guest_image():
    """A directory with vmlinuz and initramfs.gz, built now if it must be."""
    directory = os.environ.get("GODWIT_GUEST") or os.path.join(build(), "guest")
    if not os.environ.get("GODWIT_GUEST"):
        subprocess.run([os.path.join(ROOT, "guest", "build-initramfs"), directory], check=True)
    return directory


def missing_for_guest():
    """Why no real guest can be started here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which(qemu()):
        return f"no {qemu()} (install qemu-system-x86, or set GODWIT_QEMU)"
    return None


def missing_engine():
    """Why godwit cannot be run, or None."""
    if os.access(godwit(), os.X_OK):
        return None
    return f"no {godwit()} (build it, or set GODWIT)"


def missing_stunt():
    """Why the stunt guest cannot be run, or None."""
    if os.access(stunt(), os.X_OK):
        return None
    return f"no {stunt()} (build it, or set STUNT)"


def emulated_accel():
    return os.environ.get("EMULATED_ACCEL") or os.path.join(build(), "tests", "accel", "emulated-accel")


def other_qemu():
    """A QEMU of another version to migrate to and from (GODWIT_OTHER_QEMU); None: there is none here."""
    return os.environ.get("GODWIT_OTHER_QEMU")
