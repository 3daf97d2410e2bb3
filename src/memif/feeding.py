"""Sending all of something: what `send_all` and `forward_all` of both APIs do between waiting for free slots.

These are generators: each yields how many slots have to be free, is sent how many are (0: the time is over), and
returns how many packets were sent. They never offer more packets than there are free slots, so that `ring_full` counts
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
#: An item of an argument of `send` or `send_array` in an error, and the name of that argument in `send_all`.
_ITEM = re.compile(r"(?<=^argument )(packets|matrix|lengths)\[(\d+)\]")
_OURS = {"matrix": "packets"}


def sending(queue: "TxQueue", packets: Iterable[Any], lengths: Any) -> SlotRequests:
    """`send` or `send_array`, until all are sent."""
    if getattr(packets, "ndim", 0) == 2:
        return _rows(queue, packets, lengths)
    if lengths is not None:
        raise MemifValueError.argument("lengths", lengths, "None, unless packets is a matrix")
    return _packets(queue, each("packets", packets))


def forwarding(queue: "TxQueue", burst: "Burst", start: int | None, stop: int | None) -> SlotRequests:
    """`forward`, until all are sent."""
    first, end, _ = slice(start, stop).indices(len(burst))
    return _feed(queue, end - first, lambda low, high: queue.forward(burst, start=first + low, stop=first + high))


@contextmanager
def _numbered_from(start: int) -> Iterator[None]:
    """Let errors about a part of the packets name them by their numbers in the whole, as the caller knows them."""
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
        # None of them although slots are free: the next one is chained and needs more.
        ring = queue.ring
        wanted = 1 if done or ring is None else min(room + 1, ring.size)
        sent += done
    return sent


def run(queue: "TxQueue", steps: SlotRequests, timeout: float | None) -> int:
    """Run the steps and wait for slots in this thread; return the packets sent."""
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
