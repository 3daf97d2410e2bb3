"""What a testpmd is started with: its command line and its first commands."""

import os
from collections.abc import Sequence
from dataclasses import dataclass


def available_cpus() -> list[int]:
    """Return the CPUs that this process may run on, ascending."""
    return sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a testpmd is started. Its port 0 is the memif.

    Attributes:
        socket_path: Control socket, a path.
        role: "server" (master) or "client" (slave).
        id: Number of the interface.
        secret: At most 24 characters.
        bsize: Bytes of a buffer.
        rsize: Log2 of the ring size, 1 to 14.
        queues: Rings in each direction; our end needs the same number.
        zero_copy: Share DPDK's own memory; clients only.
        mac: MAC address of the memif; None: a random one.
        cpu: The CPU for both of its threads; None: the last one that this process may use.
        forward: A forward mode, as "macswap", "rxonly", "txonly", "icmpecho", "io retry".
        burst: Packets a poll.
        txpkts: Bytes a packet that "txonly" or ``start(tx_first=...)`` sends; a sequence gives one per segment.
        flush_rx: Drop at `start` what lies in the rings.
        vdevs: More ports, as net_pcap or net_tap.
        memory: MiB.
        mbufs: How many; a zero-copy port needs more than its ring has slots.
        mbuf_size: Bytes, 128 of headroom included; None: DPDK's default.
        args: More options after the ``--``.
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
        """Return the words to start it with; `prefix` sets its run-time files apart from those of others."""
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
        """Return the commands to type before the first ``start``."""
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
