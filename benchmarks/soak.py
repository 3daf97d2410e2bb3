"""Random traffic and random restarts for a long time: every packet accounted for, memory and descriptors flat.

This process and an echo in a child are linked, in roles that change. Packets of random sizes, most of them in one
buffer, some in a chain, go out in random bursts, come back, and are compared byte by byte, in order. Every second or
so the link goes: after everything has come back ("quiet", nothing may be missing), in the middle of the traffic from
either side ("hard"), or because the child is killed ("kill"). After the latter two, what is missing must fit into the
rings and the echo's hands; more is an error, and so is any packet that is changed, twice, or out of order.

    python benchmarks/soak.py                   # ten minutes
    python benchmarks/soak.py --seconds 60      # what continuous integration runs
    python benchmarks/soak.py --seed 7 --json soak.json
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import memif
from memif.testing import unused_name

RING, BUFFER, BURST = 256, 2048, 64
#: What may be under way when a link breaks: both rings, and a burst in the echo's hands.
IN_FLIGHT = 2 * RING + BURST
POOL = random.Random("soak").randbytes(1 << 16)
SIZES = (60, 61, 64, 127, 128, 594, 1500, 2048, 2049, 4096, 9000)


def packet(session: int, number: int) -> bytes:
    """The packet of this number: different from its neighbours in size and content."""
    size = SIZES[(number * 7 + session) % len(SIZES)]
    start = (number * 131 + session * 17) % (len(POOL) - size)
    return number.to_bytes(8, "big") + POOL[start : start + size - 8]


# ------------------------------------------------------------------------------------------------ the child: an echo


def echo(path: str, role: str, seed: int) -> NoReturn:
    """Send back whatever comes, in one of three ways, until killed or left alone for long."""
    signal.alarm(3600)
    dice = random.Random(seed)
    with memif.Socket(path) as sock:
        iface = sock.interface(
            role=role,
            ring_size=RING,
            buffer_size=BUFFER,
            reconnect=0.01,
            rx_mode=dice.choice(("interrupt", "polling", "adaptive")),
        )
        while True:
            try:
                iface.wait_up(60.0)
                while True:
                    _echo_some(iface, dice)
            except memif.MemifDisconnectedError:
                continue
            except memif.MemifTimeoutError:
                os._exit(0)


def _echo_some(iface: memif.Interface, dice: random.Random) -> None:
    with iface.rx[0].recv(dice.randrange(1, BURST + 1), timeout=0.1) as burst:
        if dice.randrange(2):
            done = 0
            while done < len(burst):
                done += iface.tx[0].forward(burst, start=done)
        else:
            _send_all(iface.tx[0], burst.tobytes())
    if not dice.randrange(20000):
        iface.disconnect("the echo's whim")


def _send_all(queue: memif.TxQueue, packets: list[bytes]) -> None:
    while packets:
        packets = packets[queue.send(packets) :]


# ------------------------------------------------------------------------------------------- this side: the account


@dataclass
class Account:
    """What happened so far."""

    seconds: float = 0.0
    sent: int = 0
    returned: int = 0
    in_flight_at_breaks: int = 0
    bytes: int = 0
    sessions: int = 0
    quiet: int = 0
    hard: int = 0
    kills: int = 0
    most_missing: int = 0
    errors: list[str] = field(default_factory=list)
    rss_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def settle(self, session: "Session", *, quiet: bool) -> None:
        """Close the account of one connection."""
        missing = session.sent - session.returned
        self.sent += session.sent
        self.returned += session.returned
        self.in_flight_at_breaks += missing
        self.bytes += session.bytes
        self.sessions += 1
        self.most_missing = max(self.most_missing, missing)
        if quiet and missing:
            self.errors.append(f"session {session.number}: {missing} packets missing after a quiet end")
        if missing > IN_FLIGHT:
            self.errors.append(f"session {session.number}: {missing} packets missing, {IN_FLIGHT} can be under way")

    def sample(self) -> None:
        """Note how much of the system this process holds, between two links."""
        with open("/proc/self/status") as status:
            self.rss_kib.append(next(int(line.split()[1]) for line in status if line.startswith("RssAnon")))
        self.descriptors.append(len(os.listdir("/proc/self/fd")))

    def check_flat(self) -> None:
        """Memory and descriptors of the last third must be those of the second."""
        third = len(self.rss_kib) // 3
        if third < 3:
            return
        middle, late = (statistics.median(self.rss_kib[third * n : third * (n + 1)]) for n in (1, 2))
        if late - middle > 1024:
            self.errors.append(f"memory grew by {late - middle:.0f} KiB")
        if len(set(self.descriptors[third:])) > 1:
            self.errors.append(f"descriptors: {sorted(set(self.descriptors[third:]))}")


class Session:
    """One connection: numbers every packet, checks every one that returns."""

    def __init__(self, number: int, iface: memif.Interface, dice: random.Random) -> None:
        self.number, self.iface, self.dice = number, iface, dice
        self.sent = self.returned = self.bytes = 0

    def send(self) -> None:
        """Some more, as many as fit, but never more than the rings can hold on their way there and back."""
        room = RING - (self.sent - self.returned)
        count = min(self.dice.randrange(1, BURST + 1), room)
        if count > 0:
            batch = [packet(self.number, self.sent + i) for i in range(count)]
            accepted = self.iface.tx[0].send(batch)
            self.sent += accepted
            self.bytes += sum(map(len, batch[:accepted]))

    def receive(self, timeout: float) -> int:
        """Take what has come and compare it."""
        with self.iface.rx[0].recv(BURST, timeout=timeout) as burst:
            for data in burst.tobytes():
                expected = packet(self.number, self.returned)
                if data != expected:
                    number = int.from_bytes(data[:8], "big")
                    raise AssertionError(f"session {self.number}: packet {number} instead of {self.returned}")
                self.returned += 1
            return len(burst)

    def run(self, seconds: float) -> None:
        """Traffic for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send()
            self.receive(self.dice.choice((0, 0, 0.001)))

    def drain(self) -> None:
        """Wait until everything has returned."""
        while self.returned < self.sent and self.receive(2.0):
            pass


class Soak:
    """The whole run."""

    def __init__(self, seconds: float, seed: int, say: Callable[[str], None]) -> None:
        self.seconds, self.say = seconds, say
        self.dice = random.Random(seed)
        self.account = Account()
        self.child = 0

    def run(self) -> Account:
        """Soak until the time is over, or until something is wrong."""
        start = told = time.monotonic()
        while (elapsed := time.monotonic() - start) < self.seconds and not self.account.errors:
            with self.peers() as iface:
                self.sessions(iface, min(10.0, self.seconds / 15, self.seconds - elapsed))
            self.account.sample()
            if time.monotonic() - told > 10:
                told = time.monotonic()
                self.say(f"{told - start:6.0f} s  {self.account.sent:>12,} packets, {self.account.sessions} links")
        self.account.seconds = round(time.monotonic() - start, 1)
        self.account.check_flat()
        return self.account

    @contextlib.contextmanager
    def peers(self) -> Iterator[memif.Interface]:
        """This side's interface, in either role, and a child with the other."""
        path, ours = unused_name(), self.dice.choice(("master", "slave"))
        theirs = "slave" if ours == "master" else "master"
        self.start(path, theirs)
        try:
            with memif.Socket(path) as sock:
                yield sock.interface(role=ours, ring_size=RING, buffer_size=BUFFER, reconnect=0.01)
        finally:
            self.kill()

    def start(self, path: str, role: str) -> None:
        """Fork the echo."""
        self.role, self.path = role, path
        seed = self.dice.randrange(1 << 30)
        self.child = os.fork()
        if self.child == 0:
            try:
                os.closerange(3, 256)
                echo(path, role, seed)
            finally:
                os._exit(1)

    def kill(self) -> None:
        """The child goes without a goodbye."""
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)

    def sessions(self, iface: memif.Interface, seconds: float) -> None:
        """Links in a row, with the same two ends or a new child."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.account.errors:
            iface.wait_up(10.0)
            session = Session(self.account.sessions, iface, self.dice)
            quiet = False
            try:
                session.run(self.dice.uniform(0.1, 1.5))
                quiet = self.finish(session)
            except memif.MemifDisconnectedError:
                self.account.hard += 1
            except (AssertionError, memif.MemifError) as error:
                self.account.errors.append(f"{type(error).__name__}: {error}")
            self.account.settle(session, quiet=quiet)

    def finish(self, session: Session) -> bool:
        """End a link in one of the ways; -> True when nothing may be missing."""
        how = self.dice.choice(("quiet", "quiet", "hard", "kill"))
        if how == "quiet":
            session.drain()
            self.account.quiet += 1
        elif how == "kill":
            self.account.kills += 1
            self.kill()
            self.start(self.path, self.role)
            with contextlib.suppress(memif.MemifDisconnectedError):
                while True:
                    session.receive(0.1)
        else:
            self.account.hard += 1
        session.iface.disconnect("soak")
        return how == "quiet"


def report(account: Account) -> str:
    """The result as a few lines."""
    rate = account.sent / max(account.seconds, 0.1)
    rss = account.rss_kib or [0]
    return "\n".join(
        [
            f"{account.seconds:.0f} s, {account.sessions} links: {account.quiet} ended quietly, {account.hard} hard, "
            f"{account.kills} by kill -9",
            f"{account.sent:,} packets sent = {account.returned:,} returned intact + {account.in_flight_at_breaks:,} "
            f"in flight when a link broke (at most {account.most_missing} at once, {IN_FLIGHT} possible)",
            f"{account.bytes / 1e9:.2f} GB, {rate:,.0f} packets a second there and back",
            f"memory {rss[0]} KiB at first, {rss[len(rss) // 2]} in the middle, {rss[-1]} at the end; "
            f"descriptors {sorted(set(account.descriptors))}",
            "good" if not account.errors else "FAILED: " + "; ".join(account.errors),
        ]
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices (a new one each time)")
    parser.add_argument("--json", metavar="FILE", help="write the account to FILE as well")
    words = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if words.seed is None else words.seed
    print(f"seed {seed}", flush=True)
    account = Soak(words.seconds, seed, lambda line: print(line, flush=True)).run()
    print(report(account))
    if words.json:
        with open(words.json, "w") as file:
            json.dump({"seed": seed, **asdict(account)}, file)
    return 1 if account.errors else 0


if __name__ == "__main__":
    sys.exit(main())
