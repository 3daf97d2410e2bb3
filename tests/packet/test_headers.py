"""`gather` and `scatter` against numpy's own indexing."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memif.errors import MemifValueError
from memif.packet import ETHERNET, ICMP, IPV4, IPV6, NEIGHBOUR, UDP, gather, scatter

DTYPES = (ETHERNET, IPV4, IPV6, ICMP, UDP, NEIGHBOUR, np.dtype("u1"), np.dtype(">u4"), np.dtype("V3"))


def cells(matrix: Any, dtype: Any, offsets: Any, rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and column numbers of each byte of the headers."""
    numbers = np.arange(len(matrix))
    if rows is not None:
        numbers, offsets = numbers[rows], offsets[rows]
    return numbers[:, None], offsets.astype(np.intp)[:, None] + np.arange(dtype.itemsize)


def shapes(rng: np.random.Generator, count: int) -> list[Any]:
    """Matrices of 64 columns with the same size and different strides."""
    wide = rng.integers(0, 256, (2 * count, 128), np.uint8)
    return [wide[:count, :64].copy(), wide[::2, 3:67], wide[:count, ::2], np.asfortranarray(wide[:count, :64])]


@pytest.mark.parametrize("count", [0, 1, 5, 256, 5000])
def test_like_numpy(count: int) -> None:
    rng = np.random.default_rng(count)
    for matrix in shapes(rng, count):
        for dtype in DTYPES:
            kind: Any = rng.choice([np.int32, np.int64, np.uint8, np.uint64])
            offsets = rng.integers(0, 65 - dtype.itemsize, count).astype(kind)
            some = rng.permutation(count)[: count // 2].astype(rng.choice([np.int16, np.int64]))
            for rows in (None, rng.random(count) < 0.5, np.zeros(count, np.bool_), some, some - count):
                index = cells(matrix, dtype, offsets, rows)
                expected = matrix[index].view(dtype)[:, 0]
                records = gather(matrix, dtype, offsets, rows)
                assert records.dtype == dtype
                assert records.tobytes() == expected.tobytes()
                changed = np.frombuffer(rng.bytes(expected.nbytes), dtype)
                wanted = matrix.copy()
                wanted[index] = changed.view(np.uint8).reshape(len(changed), dtype.itemsize)
                scatter(matrix, changed[::-1][::-1], offsets, rows)
                assert (matrix == wanted).all()


def test_a_header_outside_changes_nothing() -> None:
    matrix = np.zeros((300, 64), np.uint8)
    offsets = np.full(300, 14)
    records = np.ones(300, IPV4)
    for offset in (45, -1, 1 << 40, -(1 << 62)):
        offsets[250] = offset
        with pytest.raises(MemifValueError, match=rf"offsets: got {offset}, allowed: 0 to 44"):
            scatter(matrix, records, offsets)
        with pytest.raises(MemifValueError, match="offsets"):
            gather(matrix, IPV4, offsets)
        assert not matrix.any()
        gather(matrix, IPV4, offsets, np.arange(250))  # those are right


def test_one_row_twice_has_what_was_written_last() -> None:
    matrix = np.zeros((2, 8), np.uint8)
    scatter(matrix, np.array([1, 2, 3], "u1"), np.array([4, 0]), np.array([0, 1, 0]))
    assert matrix.tolist() == [[0, 0, 0, 0, 3, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0]]
