from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from memif.ring import Burst

def check(steps: list[tuple[int, int, int, int]]) -> None:
    """Raise an error unless a program may run.

    Args:
        steps: Tuples (code, jt, jf, k) of numbers that fit into 16, 8, 8 and 32 bits.

    Raises:
        MemifValueError: It may not.
    """

@final
class Program:
    """A program that has been checked, to be run over packets. Any number of threads at a time.

    Args:
        steps: The instructions, as for `check`.
    """

    def __new__(cls, steps: list[tuple[int, int, int, int]]) -> Self: ...
    def rows(self, matrix: NDArray[np.uint8], lengths: NDArray[Any]) -> NDArray[np.bool_]:
        """Run over the rows of a matrix that has been checked.

        Args:
            matrix: uint8, shape (n, width).
            lengths: uint32 or int32, shape (n,), not negative: bytes on the wire, which may be more than the width.

        Returns:
            bool, shape (n,): which packets pass.
        """
    def packets(self, packets: list[Any], lengths: NDArray[Any] | None) -> NDArray[np.bool_]:
        """Run over single packets.

        Args:
            packets: Bytes-like objects.
            lengths: As for `rows`; None for those of the packets.

        Returns:
            bool, shape (n,): which packets pass.

        Raises:
            MemifTypeError: One of them is not bytes-like.
        """
    def burst(self, burst: Burst) -> NDArray[np.bool_]:
        """Run over the packets of a burst, where they are.

        Returns:
            bool, shape (n,): which packets pass.

        Raises:
            MemifStateError: The burst was released.
            MemifValueError: One of its `lengths` is wrong.
        """
