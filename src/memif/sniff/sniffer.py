"""`Sniffer`: the recorder's side of a passive tap, and `Link`: what it knows of each link."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from memif.address import Address, SocketName, parse_address
from memif.control.listener import listen_socket
from memif.errors import MemifError, MemifOSError, MemifProtocolError
from memif.memory.layout import infer_cache_line, probe_cache_line
from memif.memory.region import check_peer_fd, mapping_size
from memif.packet.headers import Matrix as Bytes
from memif.protocol import wire
from memif.protocol.offers import check_offer
from memif.ring import Region
from memif.sniff.batch import Batch
from memif.sniff.receiver import Receiver, receiver_of
from memif.sniff.report import Kind, Report, Side, receive
from memif.sniff.ringtap import RingTap
from memif.system import Closing
from memif.system._steady import discard

_MOST_REGIONS: Final = 256
_MOST_RINGS: Final = 512


class Link:
    """What is known of a link between two other programs. One thread at a time.

    Attributes:
        number: Number of the link, from 1.
        id: The master's interface id.
        mode: Mode of the interface, a number; see `memif.protocol.wire.Mode`.
        slave_app: Program name of the slave.
        master_app: Program name of the master.
        slave_name: Interface name of the slave.
        master_name: Interface name of the master.
        up: Whether the link is up.
        unsealed: Whether the slave can shrink its memory, which would end the process that records.
        taps: The rings; empty until the link is up.
    """

    master_app: str
    slave_app: str
    slave_name: str
    master_name: str

    def __init__(self, number: int) -> None:
        self.number = number
        self.id: int = 0
        self.mode: int = 0
        self.slave_app = self.master_app = self.slave_name = self.master_name = ""
        self.up: bool = False
        self.unsealed: bool = False
        self.taps: list[RingTap] = []
        self._regions: list[Region] = []
        self._rings: list[wire.AddRing] = []
        self._fds: list[tuple[int, int]] = []  # of regions, with their sizes, until the link is up

    @property
    def name(self) -> str:
        """The interface's id with both names, for people."""
        return f"id {self.id}: {self.slave_name or self.slave_app} - {self.master_name or self.master_app}"

    @property
    def ethernet(self) -> bool:
        """True where packets start with an Ethernet header."""
        return self.mode == wire.Mode.ETHERNET

    def see(self, message: wire.Message, fds: Sequence[int]) -> None:
        """Follow a message, and take its descriptors.

        Raises:
            MemifError: when what it announces cannot be mapped or is not valid. The link itself goes on, but it cannot
                be recorded.
        """
        try:
            match message:
                case wire.Hello():
                    self.master_app = message.name
                case wire.Init():
                    self.id, self.mode, self.slave_app = message.id, message.mode, message.name
                case wire.AddRegion():
                    self._add_region(message, fds)
                case wire.AddRing():
                    self._add_ring(message)
                case wire.Connect():
                    self.slave_name = message.if_name
                case wire.Connected():
                    self.master_name = message.if_name
                    self._start()
        finally:
            for fd in fds:
                if not any(fd is kept for kept, _ in self._fds):
                    discard(fd)

    def _add_region(self, message: wire.AddRegion, fds: Sequence[int]) -> None:
        if len(fds) != 1 or message.index != len(self._regions) or message.index >= _MOST_REGIONS:
            raise MemifProtocolError(f"region {message.index}: out of order, or without its descriptor")
        try:
            # As a master does: seal first where possible, then check the size.
            self.unsealed |= not check_peer_fd(fds[0], message.size)
            self._regions.append(Region(fds[0], mapping_size(fds[0], message.size), writable=False))
        except MemifError:
            raise
        except OSError as error:
            raise MemifError(f"region {message.index} cannot be mapped: {error.strerror}") from error
        self._fds.append((fds[0], message.size))

    def _add_ring(self, message: wire.AddRing) -> None:
        if len(self._rings) >= _MOST_RINGS:
            raise MemifProtocolError("too many rings")
        self._rings.append(message)

    def _start(self) -> None:
        sizes = [len(region) for region in self._regions]
        for index, (fd, size) in enumerate(self._fds):
            if os.fstat(fd).st_size < size:  # shrunk meanwhile: reading it would raise SIGBUS
                raise MemifProtocolError(f"region {index}: memory has become shorter than announced")
        while self._fds:
            discard(self._fds.pop()[0])
        line = infer_cache_line(self._rings, sizes) or self._probe() or 64
        check_offer(sizes, self._rings, line)
        memory: list[Bytes] = [np.frombuffer(memoryview(region), np.uint8) for region in self._regions]
        self.taps = [
            RingTap(
                memory,
                ring,
                link=self.number,
                cache_line=line,
                ethernet=self.ethernet,
                receiver=self._receiver(slave=not ring.s2m),
            )
            for ring in self._rings
        ]
        for tap in self.taps:
            if not tap.ring.s2m:
                tap.watch([other for other in self.taps if other.ring.s2m])
        self.up = True

    def _receiver(self, *, slave: bool) -> Receiver:
        app = self.slave_app if slave else self.master_app
        return receiver_of(app, slave=slave, regions=len(self._regions))

    def _probe(self) -> int | None:
        if not self._rings or self._rings[0].region >= len(self._regions):
            return None
        with memoryview(self._regions[self._rings[0].region]) as memory:
            return probe_cache_line(memory, self._rings[0])

    def close(self) -> None:
        """Release the memory. Counters stay readable."""
        self.up = False
        for tap in self.taps:
            tap.close()
        for fd, _ in self._fds:
            discard(fd)
        self._regions, self._fds = [], []


_START: Final = 10.0
# Seconds between two looks at the rings.
_SHORTEST, _LONGEST, _OVERLOADED = 100e-6, 800e-6, (2e-3, 10e-3)
_QUARTER_TURN: Final = 1 << 14
_MOST_AHEAD: Final = 0.5  # share of a CPU for which others may be kept waiting
_BATCH: Final = 1024


@dataclass(frozen=True, slots=True)
class Control:
    """A control message passed.

    Attributes:
        link: Number of the link.
        side: Who sent it.
        ns: When it was seen, in nanoseconds since 1970.
        message: A dataclass of `memif.protocol.wire`, or the bytes if they are not a message.
        raw: The bytes.
        descriptors: How many descriptors were sent with it, at most 2.
    """

    link: int
    side: Side
    ns: int
    message: wire.Message | bytes
    raw: bytes
    descriptors: int


@dataclass(frozen=True, slots=True)
class Started:
    """The link is up and its rings are followed from now on."""

    link: Link


@dataclass(frozen=True, slots=True)
class Ended:
    """The link has ended. `side` closed it."""

    link: Link
    side: Side


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know: a master that does not answer, memory that cannot be mapped."""

    text: str


Event = Control | Started | Ended | Note | Batch


class Sniffer(Closing):
    """Stands between slaves that connect to `listen` and the master at `connect`; see `memif.sniff`.

    Iterate over `events`, or call `poll` in a loop of your own. Also a context manager; `close` ends the recording, not
    the link. One thread.

    Args:
        listen: Control socket where slaves connect.
        connect: Control socket of the master.
        snaplen: Bytes kept of each packet.
        load: Share of one CPU that copying packets may take, 0 to 1. If it is not enough, packets are missed and
            counted.
        realtime: With a load up to 0.5, run this thread ahead of others where the system allows it (CAP_SYS_NICE), so
            that it never looks too late to count what passed. Otherwise the count of a busy ring is an estimate; see
            `RingCounters.estimated`.
        socket_mode: Permissions of the socket file.

    Attributes:
        links: The links by number, also ended ones until `forget`.
        relay_pid: Process number of the relay.

    Raises:
        MemifError: what `memif.listen` raises for its name.
        MemifOSError: when the relay does not start.
    """

    snaplen: int
    load: float
    listen: Address
    connect: Address

    def __init__(
        self,
        listen: SocketName,
        connect: SocketName,
        *,
        snaplen: int = 65536,
        load: float = 0.1,
        realtime: bool = True,
        socket_mode: int | None = 0o600,
    ) -> None:
        self.snaplen, self.load = snaplen, load
        self.listen, self.connect = parse_address(listen, argument="listen"), parse_address(connect, argument="connect")
        self.links: dict[int, Link] = {}
        self.relay_pid: int = 0
        self._pause = _SHORTEST
        self._next_report = self._copied_at = self._cpu = 0.0
        self._listener = listen_socket(self.listen, mode=socket_mode)
        try:
            self._reports = self._start_relay()
        except BaseException:
            self._listener.close()
            raise
        self._scheduler = _go_ahead() if realtime and load <= _MOST_AHEAD else None

    def _start_relay(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = (self._listener.fileno(), theirs.fileno())
            words = [sys.executable, "-m", "memif.sniff.relay", *map(str, fds), _absolute(self.connect)]
            words.append(_absolute(self.listen) if self.listen.kind == "path" else "")
            subprocess.run(
                words,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=False,
                timeout=_START,
            )
        ready, _, _ = select.select([ours], [], [], _START)
        report = receive(ours) if ready else None
        if report is None or report.kind is not Kind.READY:
            ours.close()
            raise MemifOSError("the relay process of the tap did not start")
        self.relay_pid = int(report.text)
        return ours

    # -- use

    def events(self) -> Iterator[Event]:
        """Iterate over all events. Ends only when the relay has died."""
        while (events := self.poll(0.1)) is not None:
            yield from events

    def poll(self, timeout: float = 0.1) -> list[Event] | None:
        """Return what has happened, after waiting at most `timeout` seconds; None when the relay is gone."""
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            events: list[Event] = []
            if not self._any_up() or now >= self._next_report:
                self._next_report = now + 0.01
                wait = 0.0 if self._any_up() else max(deadline - now, 0.0)
                if not self._read_reports(events, wait):
                    return None
            taps = [tap for link in self.links.values() if link.up for tap in link.taps]
            waiting = max((tap.track() for tap in taps), default=0)
            affordable = self._affordable()
            if waiting and affordable:
                self._copy(events)
            if events or time.monotonic() >= deadline:
                return events
            if taps:
                self._sleep(not waiting or affordable, max(max(tap.rate, tap.peak) for tap in taps))

    def _sleep(self, keeping_up: bool, rate: float) -> None:
        """Wait until the next look at the rings.

        Short while packets come, longer while none do. If more come than can be copied, until there is time for the
        next copy, but not so long that an index could wrap.
        """
        if keeping_up:
            self._pause = min(self._pause * 1.3, _LONGEST)
        else:
            # A look costs time too: looking too often would use up the time for copying.
            late = self._copied_at + (time.thread_time() - self._cpu) / self.load - time.monotonic()
            most = _QUARTER_TURN / rate if rate else _OVERLOADED[1]
            self._pause = max(min(max(late, _OVERLOADED[0]), _OVERLOADED[1], most), _SHORTEST)
        time.sleep(self._pause)

    def _affordable(self) -> bool:
        """Return whether this thread's CPU time since the last copy, the caller's included, is within its load."""
        spent = time.thread_time() - self._cpu
        return (time.monotonic() - self._copied_at) * self.load >= spent

    def _any_up(self) -> bool:
        return any(link.up for link in self.links.values())

    def _copy(self, events: list[Event]) -> None:
        self._copied_at, self._cpu = time.monotonic(), time.thread_time()
        for link in self.links.values():
            for tap in link.taps if link.up else ():
                batch = tap.take(_BATCH, self.snaplen)
                if batch is not None:
                    events.append(batch)
        self._pause = _SHORTEST

    def _read_reports(self, events: list[Event], wait: float) -> bool:
        poller = select.poll()
        poller.register(self._reports, select.POLLIN)
        while poller.poll(1000 * wait):
            wait = 0.0
            try:
                report = receive(self._reports)
            except BlockingIOError:
                return True
            if report is None:
                return False
            self._report(report, events)
        return True

    def _report(self, report: Report, events: list[Event]) -> None:
        link = self.links.get(report.link)
        if report.kind is Kind.OPEN:
            self.links[report.link] = Link(report.link)
        elif report.kind is Kind.FAILED:
            events.append(Note(f"a slave connected, but the master cannot be reached: {report.text}"))
        elif report.kind is Kind.CLOSE and link is not None:
            self._last_packets(link, events)
            link.close()
            events.append(Ended(link, report.side))
        elif report.kind is Kind.MESSAGE and link is not None:
            self._message(link, report, events)

    def _message(self, link: Link, report: Report, events: list[Event]) -> None:
        message: wire.Message | bytes
        try:
            message = wire.decode(report.data)
        except MemifError:
            message = report.data
        events.append(Control(link.number, report.side, time.time_ns(), message, report.data, len(report.fds)))
        if isinstance(message, bytes):
            for fd in report.fds:
                fd.close()
            return
        was_up = link.up
        try:
            link.see(message, report.fds)
        except MemifError as error:
            events.append(Note(f"link {link.number} cannot be recorded: {error.detail or error}"))
        if link.up and not was_up:
            events.append(Started(link))
            if link.unsealed:
                events.append(Note(f"link {link.number}: if the slave shrinks its memory, this process dies of SIGBUS"))

    def _last_packets(self, link: Link, events: list[Event]) -> None:
        """Copy what is still in the rings of a link that has ended."""
        for tap in link.taps if link.up else ():
            while tap.track():
                batch = tap.take(_BATCH, self.snaplen)
                if batch is None:
                    break
                events.append(batch)

    def forget(self, link: Link) -> None:
        """Drop a link that has ended and whose counters are no longer needed."""
        self.links.pop(link.number, None)

    # -- end

    def close(self) -> None:
        """End the recording. New slaves are no longer accepted. Links that are up stay up."""
        if self._scheduler is not None:
            os.sched_setscheduler(0, *self._scheduler)
            self._scheduler = None
        self._listener.close()
        self._reports.close()
        for link in self.links.values():
            link.close()


def _go_ahead() -> tuple[int, os.sched_param] | None:
    """Run this thread ahead of all ordinary ones. Returns its scheduling before, None where that is not allowed.

    The load limits how much time it takes from them. Child processes do not inherit it.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return None
    return before


def _absolute(address: Address) -> str:
    return os.path.abspath(address.display) if address.kind == "path" else address.display
