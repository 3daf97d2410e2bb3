from typing import Any

import numpy as np
from numpy.typing import NDArray

def find(matrix: NDArray[np.uint8], lengths: NDArray[Any], ip: bool) -> tuple[Any, ...]:
    """Find the layers of a burst that has been checked.

    Args:
        matrix: uint8, shape (n, width).
        lengths: Integers, shape (n,), taken as int32.
        ip: Whether packets begin with an IP header.

    Returns:
        The fields of `Layers` in their order, all but the width.
    """
