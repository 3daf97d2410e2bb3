"""What the objects under test live in: a link in this process, with packets waiting at both ends; and its canary."""

import asyncio
import contextlib
import gc
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memif
from ends import pump
from memif.testing import unused_name

PACKETS = [bytes([n]) * (60 + n) for n in range(8)]
CHAINED = b"c" * 5000
RING = 64


class World:
    """A linked master `m` and slave `s`. `own` is the end that the object under test belongs to, `other` its peer."""

    def __init__(self, side: str = "slave", *, linked: bool = True) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.folder: str | None = None
        self.kept: list[Any] = []  # what has to live as long as the object, or to be closed with it
        self.threaded = False  # a thread of the test's own opens and closes descriptors here
        self.side = side
        self.linked = linked
        if not linked:
            return
        self.path = unused_name()
        self.listening, self.connecting = memif.Socket(self.path), memif.Socket(self.path)
        options: dict[str, Any] = {"ring_size": RING, "reconnect": None, "headroom": 64}
        self.m = self.listening.interface(role="master", **options)
        self.s = self.connecting.interface(role="slave", **options)
        self.connecting.interface(id=7, reconnect=None)  # one that never comes up
        self.s.connect()
        pump(self.listening, self.connecting, until=lambda: self.m.up and self.s.up)
        for sender in (self.m, self.s):
            assert sender.tx[0].send(PACKETS) == len(PACKETS)
            assert sender.tx[0].send([CHAINED]) == 1
        pump(self.listening, self.connecting, until=lambda: True)

    @property
    def own(self) -> memif.Interface:
        """The end under test."""
        return self.m if self.side == "master" else self.s

    @property
    def other(self) -> memif.Interface:
        """Its peer."""
        return self.s if self.side == "master" else self.m

    def burst(self) -> memif.Burst:
        """Packets received by the end under test."""
        return self.own.rx[0].recv(3, timeout=1.0)

    def temporary(self, name: str) -> str:
        """A path in a folder that goes with the world."""
        if self.folder is None:
            self.folder = tempfile.mkdtemp(prefix="memif", dir="/tmp")
        return str(Path(self.folder) / name)

    def run(self, work: Any) -> Any:
        """Run a coroutine in the loop of this world."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        return self.loop.run_until_complete(work)

    def cut(self) -> None:
        """The peer takes the link down, and this end learns of it."""
        if "m" in self.__dict__ and self.own.up:
            self.other.disconnect("gone")
            with contextlib.suppress(memif.MemifError):
                pump(self.own, self.other, until=lambda: not self.own.up)

    def close(self) -> None:
        """Close everything."""
        for thing in self.kept[::-1]:
            if callable(thing):
                thing()
        for name in ("listening", "connecting"):  # gone after `end`
            if name in self.__dict__:
                self.__dict__[name].close()

    def end(self) -> None:
        """Close everything and let it go."""
        self.close()
        self.kept.clear()
        if self.loop is not None and not self.loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
        self.linked = False
        if self.folder is not None:
            for file in Path(self.folder).iterdir():
                file.unlink()
            os.rmdir(self.folder)
            self.folder = None
        for name in ("m", "s", "listening", "connecting"):
            self.__dict__.pop(name, None)
        gc.collect()


Ranges = list[tuple[int, int]]


class Canary:
    """The bytes of the shared memory that one end of a quiet link must not write to."""

    def __init__(self, world: World, *, everything: bool = False) -> None:
        """everything: nobody may write anything, as after a fork."""
        own = world.own
        self._memory = memoryview(world.s.tx[0].ring.regions[0])
        rings = [queue.ring for queue in (*own.rx, *own.tx)]
        self._ranges = [(0, len(self._memory))] if everything else list(itertools.chain(*map(self._foreign, rings)))
        self._before = [bytes(self._memory[low:high]) for low, high in self._ranges]

    def _word(self, at: int, size: int) -> int:
        return int.from_bytes(self._memory[at : at + size], "little")

    def _foreign(self, ring: Any) -> Ranges:
        head, tail, size = ring.head, ring.tail, ring.size
        receives = type(ring).__name__ == "RxRing"
        # S2M: the slave's packets are between tail and head. M2S: the free buffers are.
        between = range(tail, tail + ((head - tail) & 0xFFFF))
        rest = range(tail + len(between), tail + size)
        theirs = between if ring.slave else rest
        at = ring.offset
        index = (at + 64, at + 66) if ring.slave else (at + 6, at + 8)
        ranges: Ranges = [index, (at, at + 4)]
        if not receives:
            ranges.append((at + 4, at + 6))  # the consumer's flags
        for slot in theirs:
            descriptor = at + 128 + 16 * (slot % size)
            offset = self._word(descriptor + 8, 4)
            ranges += [(descriptor, descriptor + 16), (offset, offset + 2048 - 64)]
        return ranges

    def check(self) -> list[str]:
        """What was written to after all, in words."""
        return [
            f"bytes {low} to {high} of the region are the peer's and were written to"
            for (low, high), before in zip(self._ranges, self._before, strict=True)
            if self._memory[low:high] != before
        ]


def making(world: World, work: Callable[[], Any]) -> Any:
    """Call `work`, in the world's loop if it has one."""
    if world.loop is None:
        return work()

    async def inside() -> Any:
        return work()

    return world.run(inside())
