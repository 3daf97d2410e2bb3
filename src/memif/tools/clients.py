"""Receiving from one client after the other: `Sink`, and `Mirror`, which sends packets back."""

import random
import time
from typing import Any

import click

from memif.errors import MemifDisconnectedError
from memif.interface import Interface
from memif.ring import Burst, TxQueue
from memif.tools.intervals import Intervals, Totals
from memif.tools.linking import Waiting
from memif.tools.received import Received, report, together
from memif.tools.screen import escaped
from memif.tools.stamp import OFFSETS, SIZE, restamp
from memif.tools.terminal import Stop
from memif.tools.transfer import bursts


class Sink:
    """Receives from one client after the other. One thread.

    Attributes:
        clients: What came from each, in their order.
    """

    clients: list[Received]

    def __init__(self, mode: str, lines: Intervals, *, analyse: bool, bidir: bool, quiet: bool) -> None:
        self.clients = []
        self._mode, self._lines, self._analyse, self._quiet = mode, lines, analyse, quiet
        self._mirror = Mirror(mode) if bidir else None
        self._client: Received | None = None
        self._bad = 0  # of the clients before

    def run(self, interface: Interface, stop: Stop, count: int, wait: float | None) -> None:
        """Receive until it is time to end.

        Args:
            interface: The interface.
            stop: Ends it at any time.
            count: Packets after which to end; 0: no limit.
            wait: Seconds without a packet, once there was one, after which to end; None: no limit.
        """
        waiting, links = Waiting(interface), 0
        for item in bursts(interface, stop, waiting=waiting):
            if waiting.links != links:
                links = waiting.links
                self._end(interface)
                self._begin(waiting.peer)
            client = self._client
            if item is not None and client is not None:
                client.add(item[1])
                if self._mirror is not None:
                    self._mirror.send(interface, item[0].index, item[1])
                if count and self.packets >= count:
                    break
            elif item is None and not interface.up:
                self._end(interface)
            if wait is not None and self._idle(wait):
                break
            if self._client is not None and self._lines.due:
                self._lines.show(**self._totals(self._client))
        self._end(interface)

    @property
    def packets(self) -> int:
        """Packets from all clients."""
        return sum(client.packets for client in self.clients)

    def _idle(self, wait: float) -> bool:
        last = max((client.last for client in self.clients if client.packets), default=None)
        return last is not None and time.monotonic() - last >= wait

    def _begin(self, peer: str) -> None:
        self._client = Received(self._mode, peer, analyse=self._analyse)
        self.clients.append(self._client)
        self._lines.restart()

    def _totals(self, client: Received) -> dict[str, Totals]:
        came = {"rx": client.totals}
        return came if self._mirror is None else came | {"tx": self._mirror.totals}

    def _end(self, interface: Interface) -> None:
        """Print the result of the client that has left."""
        if self._client is not None and not self._quiet:
            self._lines.finish(**self._totals(self._client))
            click.echo(f"from {escaped(self._client.peer)}:")
            report(self._client.result(), bad=_bad(interface) - self._bad)
            self._bad = _bad(interface)
            if self._mirror is not None:
                totals = self._mirror.totals
                click.echo(f"  {totals.packets} sent back in all, {totals.lost} dropped (ring full)")
        self._client = None

    def result(self, interface: Interface) -> dict[str, Any]:
        """Return the counts and rates of all clients together, and of each."""
        result = together(self.clients).result()
        del result["peer"]
        return result | {
            "bad": _bad(interface),
            "connects": interface.stats["connects"],
            "clients": [client.result() for client in self.clients],
            "sent_back": None if self._mirror is None else self._mirror.totals.packets,
        }


def _bad(interface: Interface) -> int:
    return sum(q["dropped_bad"] + q["dropped_oversize"] for q in interface.stats["rx"])


class Mirror:
    """Sends packets back with new numbers and times, so that the way back is measured by itself. One thread."""

    def __init__(self, mode: str) -> None:
        self.totals: Totals = Totals()
        self._offset = OFFSETS.get(mode, OFFSETS["ip"])
        self._stream = random.randrange(256)
        self._numbers: dict[int, int] = {}

    def send(self, interface: Interface, index: int, burst: Burst) -> None:
        """Send copies of a burst that came on queue `index`; what does not fit the ring is dropped and counted."""
        if not interface.tx:
            return
        lengths = burst.lengths
        rows = burst.gather(max(int(lengths.max()), self._offset + SIZE))
        number = self._numbers.get(index, 0)
        self._numbers[index] = number + restamp(rows, self._offset, (self._stream + index) & 255, number)
        sent = self._send(interface.tx[index % len(interface.tx)], rows, lengths)
        before = self.totals
        self.totals = Totals(
            before.packets + sent,
            before.bytes + int(lengths[:sent].sum()),
            before.lost + len(lengths) - sent,
        )

    def _send(self, queue: TxQueue, rows: Any, lengths: Any) -> int:
        try:
            return int(queue.send_array(rows, lengths))
        except MemifDisconnectedError:
            return 0
