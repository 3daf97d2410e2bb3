"""The kernel's own network stack as the far end of a memif.

A testpmd joins a memif and a TAP device in a network namespace of its own, so that the kernel's ``ping``
reaches whatever answers on the memif, and the machine's own addresses and routes stay out of the test.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from peers.settings import missing, require_testpmd
from peers.testpmd import Testpmd

_serial = itertools.count()
_TAP = "dtap0"


@dataclass(frozen=True)
class PingResult:
    """What one ``ping`` found; round trip times in microseconds, None when nothing was answered."""

    sent: int
    received: int
    duplicates: int
    corrupted: bool
    rtt_min: float | None
    rtt_avg: float | None
    rtt_max: float | None
    output: str

    @classmethod
    def parse(cls, output: str) -> Self:
        """Read the closing lines of iputils' ping."""
        counts = re.search(r"(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?", output)
        if counts is None:
            raise AssertionError(f"ping gave no result: {output}")
        times = re.search(r"rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/", output)
        low, mean, high = (float(t) * 1000 for t in times.groups()) if times else (None, None, None)
        sent, received, duplicates = (int(n or 0) for n in counts.groups())
        return cls(sent, received, duplicates, "wrong data byte" in output, low, mean, high, output)


def run_in(netns: str, *command: str, timeout: float = 10.0, check: bool = True) -> str:
    """Run `command` in the network namespace `netns`, return all its output; AssertionError if it fails."""
    words = ["ip", "netns", "exec", netns, *command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{' '.join(words)}: not done after {timeout} s: {late.stdout!r}") from None
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {done.returncode}: {done.stdout}")
    return done.stdout


def require_kernel_port() -> None:
    """Skip (or fail, see `peers.settings.missing`) unless TAP, ip and ping are there."""
    require_testpmd()
    for tool, package in (("ip", "iproute2"), ("ping", "iputils-ping")):
        if shutil.which(tool) is None:
            missing(f"{tool} is missing: apt-get install {package}")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("/dev/net/tun is missing: mkdir -p /dev/net && mknod /dev/net/tun c 10 200")


class KernelPort:
    """A kernel interface with an address of its own, wired to a memif.

    Context manager. The memif side is `testpmd`, with all the settings of a `Testpmd`; on entry the interface
    is up and has `address`; on exit process and namespace go away, whatever happened.
    """

    def __init__(
        self,
        socket_path: str | Path,
        role: str = "client",
        *,
        address: str = "192.168.1.1/24",
        mtu: int = 1500,
        **options: Any,
    ) -> None:
        """address: of the kernel's interface, with prefix length. mtu: of that interface, bytes; DPDK's TAP port
        takes larger packets from the kernel, but drops those to it that exceed 1500.
        """
        require_kernel_port()
        self.address = address
        self.mtu = mtu
        self.netns = f"memif-{os.getpid()}-{next(_serial)}"
        self.testpmd = Testpmd(
            socket_path, role, forward="io", vdevs=[f"net_tap0,iface={_TAP}"], netns=self.netns, **options
        )

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self.netns], check=True, timeout=10)
        try:
            # Router solicitations and the like would count as packets.
            run_in(self.netns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
            self.testpmd.open()
            run_in(self.netns, "ip", "link", "set", "lo", "up")
            run_in(self.netns, "ip", "addr", "add", self.address, "dev", _TAP)
            run_in(self.netns, "ip", "link", "set", _TAP, "mtu", str(self.mtu), "up")
            self.testpmd.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.testpmd.__exit__(kind, error, trace)
        finally:
            self._remove()

    def _remove(self) -> None:
        self.testpmd.discard()
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["ip", "netns", "delete", self.netns], check=False, timeout=10)

    def ping(
        self, target: str, count: int = 10, *, size: int = 56, interval: float = 0.002, wait: float = 2.0
    ) -> PingResult:
        """Ping `target` with `size` bytes of ICMP payload, `interval` s apart; `wait` s for the last answers.

        No fragments are sent: a `size` above the MTU less 28 is an error, not two packets. Once something was
        answered, ping waits for the last answer only twice the longest round trip so far, and `interval` at
        least (without a time below 16 bytes): where each answer counts and they are few, give it some.
        """
        options = ["-n", "-q", "-M", "do", "-c", str(count), "-s", str(size), "-i", str(interval)]
        options += ["-W", str(wait)]
        # A busy machine stretches the interval, hence the ample factor.
        limit = 10 + wait + count * (interval + 0.01) * 3
        return PingResult.parse(run_in(self.netns, "ping", *options, target, timeout=limit, check=False))

    def run(self, *command: str, timeout: float = 10.0) -> str:
        """Run any command in the namespace, as ``run("ip", "neigh")``; returns its output."""
        return run_in(self.netns, *command, timeout=timeout)
