# SPDX-License-Identifier: Apache-2.0
"""A real guest: stock QEMU with a Debian kernel and the load of guest/."""
import collections
import os
import time

from . import places, process
from .qmp import Qmp
from .serial import Serial
from .vmm import Vmm

MIB = 1 << 20
KERNEL_ARGS = "quiet console=ttyS0 mitigations=off tsc=reliable no_timer_check"

# RAM of a guest: `path` is a file (made by QEMU if it is not there), `size` is in bytes. A path on a hugetlbfs mount
# gives huge pages.
Backend = collections.namedtuple("Backend", "id size path")

# cache and aio as -drive takes them; locking is "auto", "on" or "off". `node` is its block node name.
# `kind` is its format.
Disk = collections.namedtuple("Disk", "path cache aio locking node kind",
                              defaults=("none", "native", "off", "disk0", "raw"))


class Guest(Vmm):
    """One QEMU process. Use as a context manager, or call stop().

    It has two QMP sockets, since each takes one client at a time: `qmp_path` is for godwit, `qmp` is ours.
    """

    def __init__(self, directory, name="guest", machine="pc", memory=1024 * MIB, backends=None, numa=False, cpus=1,
                 disk=None, load=None, incoming=False, netns=None, kernel_args="", extra=(), binary=None, accel=None,
                 memory_args=None):
        """
        directory    for sockets, the log, and the RAM file `name`.ram when `backends` is not given: take a tmpfs
        backends     list of Backend; more than one, or numa=True, makes NUMA nodes
        disk         a Disk or the path of a raw image
        load         settings of the load, {"mem": 300, "rate": 20000}: gw.mem, gw.rate, ... (guest/settings.h)
        incoming     a destination: -incoming defer -S
        netns        name of the network namespace to run in
        extra        more arguments for QEMU
        memory_args  what stands for RAM on the command line, instead of shared files
        """
        self.name = name
        self.directory = str(directory)
        self.backends = [] if memory_args else backends or [Backend("ram0", memory, self._file("ram"))]
        self.disk = Disk(disk) if isinstance(disk, (str, os.PathLike)) else disk
        self.load = dict(load or {})
        self._options = {"machine": machine, "numa": numa, "cpus": cpus, "kernel_args": kernel_args, "extra": extra,
                         "binary": binary, "accel": accel, "memory_args": memory_args}
        self.netns = netns
        self.qmp_path = self._file("qmp")
        self.control_path = self._file("monitor")
        self.serial_path = self._file("serial")
        self.log_path = self._file("log")
        self.args = [binary or places.qemu(), "-name", name, "-display", "none", "-vga", "std",
                     "-accel", accel or places.accelerator(), "-smp", str(cpus)]
        self.args += self._memory_args(machine, numa) + self._disk_args() + self._boot_args(kernel_args)
        for id_, path in (("serial0", self.serial_path), ("godwit", self.qmp_path), ("test", self.control_path)):
            self.args += ["-chardev", f"socket,id={id_},path={path},server=on,wait=off"]
        self.args += ["-serial", "chardev:serial0", "-mon", "chardev=godwit,mode=control",
                      "-mon", "chardev=test,mode=control"]
        if incoming:
            self.args += ["-incoming", "defer", "-S"]
        self.args += list(extra)
        self._child = self._serial = self._qmp = None
        self._start()

    def _file(self, kind):
        return os.path.join(self.directory, f"{self.name}.{kind}")

    def _memory_args(self, machine, numa):
        if self._options["memory_args"]:
            return list(self._options["memory_args"])
        total = sum(b.size for b in self.backends)
        args = []
        for b in self.backends:
            args += ["-object", f"memory-backend-file,id={b.id},size={b.size},share=on,mem-path={b.path}"]
        if len(self.backends) == 1 and not numa:
            return args + ["-machine", f"{machine},memory-backend={self.backends[0].id}", "-m", f"{total // 1024}K"]
        for b in self.backends:
            args += ["-numa", f"node,memdev={b.id}"]
        return args + ["-machine", machine, "-m", f"{total // 1024}K"]

    def _disk_args(self):
        if self.disk is None:
            return []
        d = self.disk
        direct = "on" if d.cache in ("none", "directsync") else "off"
        file = (f"driver=file,node-name={d.node}-file,filename={d.path},aio={d.aio},locking={d.locking},"
                f"cache.direct={direct}")
        image = f"driver={d.kind},node-name={d.node},file={d.node}-file,cache.direct={direct}"
        return ["-blockdev", file, "-blockdev", image, "-device", f"virtio-blk-pci,id=vd0,drive={d.node}"]

    def _boot_args(self, kernel_args):
        image = places.guest_image()
        load = dict(self.load)
        if self.disk is not None:
            load.setdefault("disk", 1)
        words = [KERNEL_ARGS, kernel_args] + [f"gw.{k}={v}" for k, v in load.items()]
        return ["-kernel", os.path.join(image, "vmlinuz"), "-initrd", os.path.join(image, "initramfs.gz"),
                "-append", " ".join(w for w in words if w)]

    def _start(self):
        with open(self.log_path, "ab") as log:
            self._child = process.spawn(self.args, netns=self.netns, stdin=log, stdout=log, stderr=log)
        try:
            # Listening before the guest runs: QEMU drops what nobody reads.
            self._serial = self._connect(Serial, self.serial_path)
            self._qmp = self._connect(Qmp, self.control_path)
        except BaseException:
            self.stop()
            raise

    def _connect(self, kind, path):
        deadline = time.monotonic() + places.patience(30)
        while True:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name}: QEMU ended with {self._child.returncode}: {self.log()}")
            try:
                return kind(path, timeout=0.5 if kind is Serial else places.patience(30))
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise

    def __exit__(self, *exc):
        self.stop()

    @property
    def serial(self):
        return self._serial

    def wait_gone(self, timeout=places.patience(30)):
        """Waits until QEMU has ended by itself; its exit status."""
        return self._child.wait(timeout)

    def destination(self, directory=None, name=None, netns=None, disk=None, backends=None, **changes):
        """A second guest like this one that waits for a migration. It gets RAM files of its own, and the disk image
        that is given here: a guest with a disk must name one (the same path for shared storage)."""
        name = name or self.name + "-dst"
        directory = str(directory or self.directory)
        if backends is None:
            backends = [Backend(b.id, b.size, os.path.join(os.path.dirname(b.path), f"{name}.{b.id}"))
                        for b in self.backends]
        if self.disk is not None:
            if disk is None:
                raise ValueError("name the destination's disk image")
            disk = self.disk._replace(path=str(disk)) if not isinstance(disk, Disk) else disk
        options = {**self._options, **changes}
        return type(self)(directory, name=name, backends=backends, disk=disk, netns=netns, load=self.load,
                          incoming=True, **options)

    def wait_ready(self, timeout=places.patience(120)):
        """Returns once the load has filled its memory."""
        self._serial.wait_line(lambda text: text == "ready" or text.startswith("ERROR"), timeout)
        if self._serial.errors():
            raise RuntimeError(f"{self.name}: {self._serial.errors()}")
        return self

    def stop(self):
        """Kills QEMU; the serial lines stay readable. RAM files stay for the oracle: remove() deletes them."""
        if self._child is not None:
            process.kill(self._child)
        for end in (self._serial, self._qmp):
            if end is not None:
                end.close()
