"""What a testpmd is started with: its command line and its first commands, and whether it can run at all."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import pytest

_PACKAGES = "dpdk dpdk-dev librte-net-memif23 librte-net-tap23 librte-net-pcap23 librte-mempool-ring23"


def missing(reason: str) -> NoReturn:
    """Skip the running test for `reason`; fail it where MEMIF_REQUIRE_DPDK=1 promises that DPDK is there."""
    if os.environ.get("MEMIF_REQUIRE_DPDK") == "1":
        pytest.fail(f"MEMIF_REQUIRE_DPDK=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require_testpmd() -> None:
    """Skip (or fail, see `missing`) unless testpmd can run here."""
    if shutil.which("dpdk-testpmd") is None:
        missing(f"dpdk-testpmd is missing: apt-get install --no-install-recommends {_PACKAGES}")
    if os.geteuid() != 0:
        missing("dpdk-testpmd needs root")


def available_cpus() -> list[int]:
    """CPUs this process may run on, ascending."""
    return sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one testpmd whose port 0 is a memif.

    role: "server" (master) or "client" (slave). secret: at most 24 characters. bsize: bytes of a buffer.
    rsize: log2 of the ring size, 1 to 14. queues: rings in each direction. zero_copy: clients only.
    mac: of the memif, random by default.
    cpu: the CPU for both of its threads; by default the last that this process may use, which leaves the
    first to the test.
    forward: a forward mode such as "rxonly", "txonly", "icmpecho", "io retry". burst: packets a poll.
    txpkts: bytes a packet that txonly or ``start(tx_first=...)`` sends; a sequence gives one per segment.
    flush_rx: drop at `start` what lies in the rings. vdevs: more ports, as net_pcap or net_tap.
    memory: MiB. mbufs: how many; a zero-copy port needs more than its ring has slots.
    mbuf_size: bytes, 128 of headroom included. args: more options after the ``--``.
    """

    socket_path: str
    role: str = "server"
    id: int = 0
    secret: str | None = None
    bsize: int = 2048
    rsize: int = 10
    queues: int = 1
    zero_copy: bool = False
    mac: str | None = None
    cpu: int | None = None
    forward: str = "io"
    burst: int | None = None
    txpkts: int | Sequence[int] | None = None
    flush_rx: bool = False
    vdevs: Sequence[str] = ()
    memory: int = 64
    mbufs: int = 4096
    mbuf_size: int | None = None
    args: Sequence[str] = ()

    def command_line(self, prefix: str) -> list[str]:
        """Words to start it with; `prefix` sets its run-time files apart from those of others."""
        return ["stdbuf", "-oL", "dpdk-testpmd", *self._eal(prefix), "--", "-i", *self._application()]

    def _eal(self, prefix: str) -> list[str]:
        cpu = available_cpus()[-1] if self.cpu is None else self.cpu
        words = ["--no-huge", "--no-pci", "--no-shconf", "--log-level=pmd.net.memif:info", f"-m{self.memory}"]
        words += [f"--file-prefix={prefix}", f"--lcores=0@{cpu},1@{cpu}"]
        words += ["--single-file-segments"] if self.zero_copy else []
        return words + [f"--vdev={vdev}" for vdev in (self._memif(), *self.vdevs)]

    def _memif(self) -> str:
        options = {
            "role": self.role,
            "id": self.id,
            "socket": self.socket_path,
            "socket-abstract": "no",
            "bsize": self.bsize,
            "rsize": self.rsize,
            "mac": self.mac,
            "secret": self.secret,
            "zero-copy": "yes" if self.zero_copy else None,
        }
        return ",".join(["net_memif0", *(f"{k}={v}" for k, v in options.items() if v is not None)])

    def _application(self) -> list[str]:
        words = [
            "--no-mlockall",
            f"--total-num-mbufs={self.mbufs}",
            f"--rxq={self.queues}",
            f"--txq={self.queues}",
        ]
        words += [] if self.flush_rx else ["--no-flush-rx"]
        words += [f"--mbuf-size={self.mbuf_size}"] if self.mbuf_size else []
        return words + list(self.args)

    def first_commands(self) -> list[str]:
        """Commands to type before the first ``start``."""
        commands = [f"set fwd {self.forward}"]
        if "retry" in self.forward:
            # Two seconds of patience: on a busy machine the other end may not run for a while.
            commands.append("set burst tx delay 20 retry 100000")
        if self.txpkts is not None:
            sizes = [self.txpkts] if isinstance(self.txpkts, int) else self.txpkts
            commands.append("set txpkts " + ",".join(map(str, sizes)))
        if self.burst is not None:
            commands.append(f"set burst {self.burst}")
        return commands
