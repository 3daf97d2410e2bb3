"""What `send_all` and `forward_all` of both APIs do between waiting for free slots.

The generators here yield the number of slots they need, are sent the number that is free (0 after a timeout), and
return the number of packets sent. They never offer more packets than there are free slots, so that `ring_full` counts
chains at most.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from memif.config import Deadline, each
from memif.errors import MemifValueError

if TYPE_CHECKING:
    from memif.ring import Burst, TxQueue

SlotRequests = Generator[int, int, int]
_WINDOW = 256
#: How errors of `send` and `send_array` name an item, and what `send_all` calls the argument.
_ITEM = re.compile(r"(?<=^argument )(packets|matrix|lengths)\[(\d+)\]")
_OURS = {"matrix": "packets"}


def sending(queue: "TxQueue", packets: Iterable[Any], lengths: Any) -> SlotRequests:
    """Call `send` or `send_array` until all packets are sent."""
    if getattr(packets, "ndim", 0) == 2:
        return _rows(queue, packets, lengths)
    if lengths is not None:
        raise MemifValueError.argument("lengths", lengths, "None, unless packets is a matrix")
    return _packets(queue, each("packets", packets))


def forwarding(queue: "TxQueue", burst: "Burst", start: int | None, stop: int | None) -> SlotRequests:
    """Call `forward` until all packets are sent."""
    first, end, _ = slice(start, stop).indices(len(burst))
    return _feed(queue, end - first, lambda low, high: queue.forward(burst, start=first + low, stop=first + high))


@contextmanager
def _numbered_from(start: int) -> Iterator[None]:
    """Make errors about a part of the packets name items by their numbers in the caller's sequence."""
    try:
        yield
    except MemifValueError as error:
        detail = _ITEM.sub(lambda item: f"{_OURS.get(item[1], item[1])}[{start + int(item[2])}]", error.detail)
        raise type(error)(detail, code=error.code) from error


def _packets(queue: "TxQueue", packets: Iterator[Any]) -> SlotRequests:
    total = 0
    while window := list(islice(packets, _WINDOW)):
        sent = yield from _window(queue, window, total)
        total += sent
        if sent < len(window):
            break
    return total


def _window(queue: "TxQueue", packets: list[Any], first: int) -> SlotRequests:
    def offer(low: int, high: int) -> int:
        with _numbered_from(first + low):
            return queue.send(packets[low:high])

    return _feed(queue, len(packets), offer)


def _rows(queue: "TxQueue", matrix: Any, lengths: Any) -> SlotRequests:
    def offer(low: int, high: int) -> int:
        with _numbered_from(low):
            return queue.send_array(matrix[low:high], None if lengths is None else lengths[low:high])

    return _feed(queue, len(matrix), offer)


def _feed(queue: "TxQueue", count: int, offer: Callable[[int, int], int]) -> SlotRequests:
    sent, wanted = 0, 1
    while sent < count:
        room = yield wanted
        if not room:
            break
        done = offer(sent, min(sent + room, count))
        # Nothing was sent although slots are free: the next packet is a chain and needs more.
        ring = queue.ring
        wanted = 1 if done or ring is None else min(room + 1, ring.size)
        sent += done
    return sent


def run(queue: "TxQueue", steps: SlotRequests, timeout: float | None) -> int:
    """Run the steps, waiting for slots in this thread, and return the number of packets sent."""
    deadline, ring = Deadline(timeout), queue.ring
    room = 0
    try:
        wanted = next(steps)
        while True:
            room = queue.free()
            if room < wanted:
                room = queue.free() if queue.wait_free(wanted, deadline.rest()) else 0
            if queue.ring is not ring:  # a wait ends with the link it began on
                raise queue.owner.down()
            wanted = steps.send(room)
    except StopIteration as end:
        return int(end.value)
