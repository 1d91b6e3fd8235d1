# SPDX-License-Identifier: Apache-2.0
"""Two hosts: network namespaces with a veth pair between them, shaped with tbf.

The addresses are the same in every pair, for the pairs do not see each other: tests can run at the same time.
"""
import atexit
import itertools
import json
import os
import re
import subprocess

GIGABIT = 10**9
_numbers = itertools.count()


def _run(*args):
    subprocess.run([str(a) for a in args], check=True)


def sweep_stale():
    """Deletes namespaces of test runs that were killed."""
    listing = subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE, check=True, text=True).stdout
    for name, pid in re.findall(r"^(gwt-(\d+)-\S+)", listing, re.M):
        if not os.path.exists(f"/proc/{pid}"):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


class Host:
    """One end: `netns` is its name for guests and engines, `address` its IPv4 address, `device` its interface."""

    def __init__(self, netns, address, device="link0"):
        self.netns = netns
        self.address = address
        self.device = device

    def counters(self):
        """Bytes that this end has sent and received since it exists, with all headers, as (sent, received)."""
        text = subprocess.run(["ip", "-n", self.netns, "-j", "-s", "link", "show", "dev", self.device], check=True,
                              stdout=subprocess.PIPE).stdout
        stats = json.loads(text)[0]["stats64"]
        return stats["tx"]["bytes"], stats["rx"]["bytes"]


class Hosts:
    """The pair, as hosts.a and hosts.b. Use as a context manager, or call delete()."""

    def __init__(self, rate=None):
        """rate: bits per second in each direction; None leaves the link as fast as it is."""
        sweep_stale()
        start = f"gwt-{os.getpid()}-{next(_numbers)}"
        self.a = Host(start + "a", "10.78.0.1")
        self.b = Host(start + "b", "10.78.0.2")
        self._made = []
        atexit.register(self.delete)
        try:
            for host in (self.a, self.b):
                _run("ip", "netns", "add", host.netns)
                self._made.append(host.netns)
                _run("ip", "-n", host.netns, "link", "set", "lo", "up")
            _run("ip", "link", "add", self.a.device, "netns", self.a.netns, "type", "veth",
                 "peer", "name", self.b.device, "netns", self.b.netns)
            for host in (self.a, self.b):
                _run("ip", "-n", host.netns, "addr", "add", host.address + "/24", "dev", host.device)
                _run("ip", "-n", host.netns, "link", "set", host.device, "up")
            self.rate(rate)
        except BaseException:
            self.delete()
            raise

    def rate(self, bits):
        """Changes the speed of the link while it is in use; None takes the limit away."""
        for host in (self.a, self.b):
            if bits is None:
                subprocess.run(["tc", "-n", host.netns, "qdisc", "del", "dev", host.device, "root"], check=False,
                               stderr=subprocess.DEVNULL)
            else:
                # 5 ms worth of tokens, never less than two of the largest packets; 20 ms of queue as a switch has.
                burst = max(int(bits) // 8 // 200, 131072)
                _run("tc", "-n", host.netns, "qdisc", "replace", "dev", host.device, "root", "tbf",
                     "rate", f"{int(bits)}bit", "burst", burst, "latency", "20ms")

    def cut(self):
        """Unplugs the cable."""
        _run("ip", "-n", self.a.netns, "link", "set", self.a.device, "down")

    def heal(self):
        """Plugs it in again."""
        _run("ip", "-n", self.a.netns, "link", "set", self.a.device, "up")

    def delete(self):
        """Deletes both; may be called again."""
        while self._made:
            _run("ip", "netns", "delete", self._made.pop())
        atexit.unregister(self.delete)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.delete()
