"""Checks of the arrays that users pass in."""

from typing import Any

import numpy as np

from memif.errors import MemifTypeError, MemifValueError


def check(matrix: Any, lengths: Any) -> None:
    """Raises `MemifValueError` unless the two arrays describe one burst."""
    check_matrix(matrix)
    check_lengths("lengths", lengths, matrix)


def check_matrix(matrix: Any, *, writable: bool = False) -> None:
    """Raises `MemifValueError` for what is no matrix of bytes."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.uint8:
        raise MemifTypeError.argument("matrix", Described(matrix), "a uint8 array of shape (n, width)")
    if matrix.ndim != 2:
        raise MemifValueError.argument("matrix", Described(matrix), "a uint8 array of shape (n, width)")
    if writable and not matrix.flags.writeable:
        raise MemifValueError.argument("matrix", "a read-only array", "a writable one")


def check_lengths(name: str, lengths: Any, matrix: Any) -> None:
    """Raises `MemifValueError` unless there is an integer for each row."""
    if not isinstance(lengths, np.ndarray) or lengths.dtype.kind not in "ui":
        raise MemifTypeError.argument(name, Described(lengths), "an array of integers, one for each row of matrix")
    if lengths.shape != matrix.shape[:1]:
        raise MemifValueError.argument(name, Described(lengths), f"shape {matrix.shape[:1]}, one for each row")


class Described:
    """What an error shows of an argument that should be an array."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
