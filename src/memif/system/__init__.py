"""What the kernel hands out, kept safe: descriptors that have an owner from their first moment, locks that are given
back whatever happens.

Memory, rings and the control channel are built on this. The compiled part is `memif.system._steady`.
"""

from types import TracebackType
from typing import Never, Self

from memif.hints import NotAsync


class Single:
    """Base of what owns descriptors, memory or a link: a copy would close them while the original uses them."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> Never:
        """Refuse `copy` and `pickle` with a TypeError."""
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}: it owns what there is only once")


class Closing(NotAsync, Single):
    """A `Single` that is a context manager: it is closed at the end of the block."""

    __slots__ = ()

    def close(self) -> None:
        """Release what it owns."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
