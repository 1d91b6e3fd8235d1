# SPDX-License-Identifier: Apache-2.0
"""An archive that a kernel boots, made without root: cpio, modules in their order, a shell."""
import lzma
import os
import re
import shutil
import subprocess
import sys


class Cpio:
    """An archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.parts = []
        self.inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        raw = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(raw), 0]
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + raw
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def finish(self):
        self.add("TRAILER!!!", 0)
        return b"".join(self.parts)


def busybox():
    path = shutil.which("busybox")
    if path:
        with open(path, "rb") as file:
            if b"/ld-linux" not in file.read(4096):  # where a dynamic program names its interpreter
                return path
    sys.exit("no static busybox: install busybox-static")


def module_files(tree, names):
    """Paths of the modules with these names and of what they need, in the order in which they must be loaded. `tree` is
    /lib/modules/RELEASE, with depmod's files. A name that is in no file is built into the kernel, or unknown."""
    needs = {}
    with open(os.path.join(tree, "modules.dep"), encoding="ascii") as file:
        for line in file:
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
    by_name = {re.sub(r"\.ko.*", "", os.path.basename(p)).replace("-", "_"): p for p in needs}
    order = []

    def add(path):
        for need in needs[path]:
            add(need)
        if path not in order:
            order.append(path)

    for name in names:
        if name in by_name:
            add(by_name[name])
    return [os.path.join(tree, path) for path in order]


def unpacked_module(path):
    """A module as insmod can take it, and the name for it."""
    name = os.path.basename(path)
    with open(path, "rb") as file:
        data = file.read()
    if name.endswith(".xz"):
        return name[:-3], lzma.decompress(data)
    if name.endswith(".zst"):
        return name[:-4], subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
    return name, data


def begin(directories, applets):
    """A Cpio with directories, a console and a shell in it."""
    cpio = Cpio()
    for name in directories:
        cpio.add(name, 0o40755)
    cpio.add("dev/console", 0o20600, device=(5, 1))
    with open(busybox(), "rb") as file:
        cpio.add("bin/busybox", 0o100755, file.read())
    for applet in applets:
        cpio.add("bin/" + applet, 0o120777, b"busybox")
    return cpio


def add_file(cpio, name, path):
    """A file that everybody may run."""
    with open(path, "rb") as file:
        cpio.add(name, 0o100755, file.read())


def add_modules(cpio, modules):
    """Into /modules, which must be there; /modules/order names them in the order in which they must be loaded."""
    names = []
    for path in modules:
        name, data = unpacked_module(path)
        cpio.add("modules/" + name, 0o100644, data)
        names.append(name)
    cpio.add("modules/order", 0o100644, "".join(n + "\n" for n in names).encode())
