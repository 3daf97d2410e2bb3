from typing import Any

import numpy as np
from numpy.typing import NDArray

def move(
    matrix: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    numbers: NDArray[np.int64] | None,
    records: NDArray[Any],
    size: int,
    back: bool,
) -> int:
    """Copy headers out of the rows of a matrix, or back into them.

    Args:
        matrix: uint8, shape (n, width).
        offsets: int64, shape (n,).
        numbers: Of the rows, int64, shape (m,), negative from the end. None: all.
        records: uint8, shape (m * size,), contiguous. Written, or read with `back`.
        size: Bytes of a header, at most the width.
        back: Write the headers into the rows; not one, if one lies outside.

    Returns:
        -1; or the number, of 0 to m - 1, of the first header that lies outside.
    """
