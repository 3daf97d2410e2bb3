"""What to write instead, in the errors of things that look right and are not."""

from typing import TYPE_CHECKING, ClassVar, Never, TypeVar

Q = TypeVar("Q")


class Queues(tuple[Q, ...]):
    """The queues of an interface in one direction."""

    __slots__ = ()
    side: ClassVar[str]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            if self and hasattr(type(self[0]), name):
                raise AttributeError(
                    f"{self.side} holds {len(self)} queues, and {name} is of one queue: "
                    f"write {self.side}[0].{name}, with the queue's number"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class RxQueues(Queues[Q]):
    """The receive queues."""

    __slots__ = ()
    side = "rx"


class TxQueues(Queues[Q]):
    """The transmit queues."""

    __slots__ = ()
    side = "tx"


class OnlyAsync:
    """Base of what ``async with`` opens: ``with`` says so."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __enter__(self) -> Never:
            raise TypeError(f"write 'async with' in place of 'with': {self!r} belongs to an event loop")

        def __exit__(self, *error: object) -> Never:
            raise TypeError("write 'async with' in place of 'with'")


class NotAsync:
    """Base of what ``with`` opens: ``async with`` says so."""

    __slots__ = ()

    if not TYPE_CHECKING:

        async def __aenter__(self) -> Never:
            raise TypeError(f"write 'with' in place of 'async with' for {self!r}, or use memif.aio")

        async def __aexit__(self, *error: object) -> Never:
            raise TypeError("write 'with' in place of 'async with', or use memif.aio")
