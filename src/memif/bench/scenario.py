"""What can be measured: one `Scenario` is one row of the table."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: What it is, for the table.
        kind: "bulk" (packets per second in one direction), "echo" (packets per second there and back) or "rtt" (seconds
            of a round trip).
        sender: What the sending process does: a name in `memif.bench.workloads` or `memif.bench.worker`.
        receiver: The same for the receiving process.
        size: Bytes of a packet.
        burst: Packets per call.
        ring: Slots of each ring.
        queues: Queues in each direction.
        towards: "master" or "slave": who receives.
        mode: Receive mode of the queues.
    """

    name: str
    kind: str
    sender: str
    receiver: str
    size: int = 64
    burst: int = 256
    ring: int = 1024
    queues: int = 1
    towards: str = "master"
    mode: str = "polling"

    @property
    def title(self) -> str:
        """One line for the table."""
        parts = [self.name, f"{self.size} B", f"burst {self.burst}"]
        if self.ring != 1024:
            parts.append(f"ring {self.ring}")
        if self.queues != 1:
            parts.append(f"{self.queues} queues")
        parts.append("S2M" if self.towards == "master" else "M2S")
        if self.mode != "polling":
            parts.append(self.mode)
        return ", ".join(parts)


def _bulk() -> Iterable[Scenario]:
    base = Scenario("send_array → gather", "bulk", "send_array", "gather")
    for towards in ("master", "slave"):
        for size in (64, 256, 1500, 9000):
            for burst in (1, 32, 64, 256):
                yield replace(base, size=size, burst=burst, towards=towards)
    yield replace(base, mode="interrupt")
    yield replace(base, mode="adaptive")
    yield replace(base, queues=2)
    yield replace(base, name="alloc in place → gather", sender="alloc")
    yield replace(base, name="list of bytes → tobytes", sender="send_list", receiver="tobytes")
    yield replace(base, name="one memoryview a packet", receiver="memoryviews")
    yield replace(base, name="one packet a call", sender="send_one", receiver="recv_one", burst=1)
    yield replace(base, name="memif.libmemif", sender="libmemif_send", receiver="libmemif_receive")
    yield replace(base, name="asyncio send_all → recv", sender="aio_send", receiver="aio_receive", mode="interrupt")


def _echo() -> Iterable[Scenario]:
    base = Scenario("forward, zero-copy", "echo", "bounce", "forward", towards="slave")
    yield base
    yield replace(base, name="forward, copy", towards="master")
    yield replace(base, name="Python loop, two fields a packet", receiver="python_echo", towards="master")
    yield replace(base, name="numpy ICMP responder", sender="bounce_icmp", receiver="numpy_responder", towards="master")
    yield replace(base, name="numba ICMP responder", sender="bounce_icmp", receiver="numba_responder", towards="master")


def _rtt() -> Iterable[Scenario]:
    for mode in ("polling", "interrupt", "adaptive"):
        yield Scenario("round trip", "rtt", "ask", "answer", burst=1, mode=mode)


CATALOGUE: tuple[Scenario, ...] = (*_bulk(), *_echo(), *_rtt())

_QUICK = {
    ("send_array → gather", 64, 256),
    ("send_array → gather", 64, 32),
    ("send_array → gather", 256, 256),
    ("send_array → gather", 1500, 256),
    ("list of bytes → tobytes", 64, 256),
    ("one memoryview a packet", 64, 256),
    ("one packet a call", 64, 1),
    ("forward, zero-copy", 64, 256),
    ("forward, copy", 64, 256),
    ("numpy ICMP responder", 64, 256),
    ("numba ICMP responder", 64, 256),
    ("round trip", 64, 1),
    ("Python loop, two fields a packet", 64, 256),
    ("memif.libmemif", 64, 256),
}


def select(*, quick: bool = False, only: str = "") -> list[Scenario]:
    """Return the scenarios to run: those whose title contains `only`, with `quick` a choice of them."""
    chosen = [s for s in CATALOGUE if only.lower() in s.title.lower()]
    if quick:
        chosen = [
            s
            for s in chosen
            if (s.name, s.size, s.burst) in _QUICK and s.queues == 1 and (s.kind == "rtt" or s.mode == "polling")
        ]
    return chosen
