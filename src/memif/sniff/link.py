"""One link between a slave and a master, as its control messages tell of it, and the taps on its rings."""

import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from memif.errors import MemifError, MemifProtocolError
from memif.memory.layout import infer_cache_line, probe_cache_line
from memif.memory.region import check_peer_fd, mapping_size
from memif.protocol import wire
from memif.protocol.offers import check_offer
from memif.ring import Region
from memif.sniff.batch import Bytes
from memif.sniff.ring import RingTap
from memif.system._steady import discard

_MOST_REGIONS: Final = 256
_MOST_RINGS: Final = 512


class Link:
    """What is known of a link. `taps` are there once it is up; one thread at a time."""

    master_app: str
    slave_app: str
    slave_name: str
    master_name: str

    def __init__(self, number: int) -> None:
        self.number = number
        self.id: int = 0
        self.mode: int = 0
        #: Program and interface names that the two say of themselves.
        self.slave_app = self.master_app = self.slave_name = self.master_name = ""
        self.up: bool = False
        #: Whether the slave can shrink its memory, which would end the process that records.
        self.unsealed: bool = False
        self.taps: list[RingTap] = []
        self._regions: list[Region] = []
        self._rings: list[wire.AddRing] = []
        self._fds: list[tuple[int, int]] = []  # of regions, with their sizes, until the link is up

    @property
    def name(self) -> str:
        """The interface's number with both names, for people."""
        return f"id {self.id}: {self.slave_name or self.slave_app} - {self.master_name or self.master_app}"

    @property
    def ethernet(self) -> bool:
        """True where packets start with an Ethernet header."""
        return self.mode == wire.Mode.ETHERNET

    def see(self, message: wire.Message, fds: Sequence[int]) -> None:
        """Follow a message; takes the descriptors.

        Raises `MemifError` when what it announces can not be mapped or is not sound. The link itself goes on, only it
        can not be recorded.
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
            # As a master does: seal first where that is possible, then look at the size.
            self.unsealed |= not check_peer_fd(fds[0], message.size)
            self._regions.append(Region(fds[0], mapping_size(fds[0], message.size), writable=False))
        except MemifError:
            raise
        except OSError as error:
            raise MemifError(f"region {message.index} can not be mapped: {error.strerror}") from error
        self._fds.append((fds[0], message.size))

    def _add_ring(self, message: wire.AddRing) -> None:
        if len(self._rings) >= _MOST_RINGS:
            raise MemifProtocolError("too many rings")
        self._rings.append(message)

    def _start(self) -> None:
        sizes = [len(region) for region in self._regions]
        for index, (fd, size) in enumerate(self._fds):
            if os.fstat(fd).st_size < size:  # cut off meanwhile: looking at it would be the end
                raise MemifProtocolError(f"region {index}: memory has become shorter than announced")
        while self._fds:
            discard(self._fds.pop()[0])
        line = infer_cache_line(self._rings, sizes) or self._probe() or 64
        check_offer(sizes, self._rings, line)
        memory: list[Bytes] = [np.frombuffer(memoryview(region), np.uint8) for region in self._regions]
        self.taps = [
            RingTap(memory, ring, link=self.number, cache_line=line, ethernet=self.ethernet) for ring in self._rings
        ]
        self.up = True

    def _probe(self) -> int | None:
        if not self._rings or self._rings[0].region >= len(self._regions):
            return None
        with memoryview(self._regions[self._rings[0].region]) as memory:
            return probe_cache_line(memory, self._rings[0])

    def close(self) -> None:
        """Let go of the memory; counters stay readable."""
        self.up = False
        for tap in self.taps:
            tap.close()
        for fd, _ in self._fds:
            discard(fd)
        self._regions, self._fds = [], []
