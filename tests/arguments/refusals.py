"""What every error of an argument has to say, and values that are wrong in most places."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from memif import MemifError

HUGE = 2**70
NAN, INF = float("nan"), float("inf")
#: Wrong wherever a whole number is wanted.
NUMBER = ("1", b"1", 1.5, NAN, INF, [], -HUGE, HUGE)
#: Wrong wherever seconds are wanted; None is right in some places.
SECONDS = (-1, -1e-9, NAN, "1", b"1", [1.0], {})
#: Wrong wherever a text is wanted.
TEXT = (b"text", 5, ["text"], object())
#: Wrong wherever a word of a few is wanted.
WORD = ("", "no such word", None, b"interrupt", 5, ["interrupt"])
#: Wrong wherever something to call is wanted.
CALLBACK = ("name", 5, [print])
#: Wrong wherever an array of bytes with two dimensions is wanted.
MATRIX: tuple[Any, ...] = (
    None,
    b"abc",
    [[1, 2], [3, 4]],
    "text",
    np.zeros((2, 64), np.int8),
    np.zeros((2, 64), np.uint16),
    np.zeros(64, np.uint8),
    np.zeros((1, 2, 64), np.uint8),
)

Table = Mapping[str, tuple[Callable[..., Any], Mapping[str, Sequence[Any]]]]


@contextmanager
def refused(argument: str, value: object = None, *, hidden: bool = False) -> Iterator[None]:
    """The error names the argument as the caller wrote it, shows the value, unless `hidden`, and says what is
    allowed."""
    with pytest.raises(MemifError) as caught:
        yield
    error = caught.value
    assert isinstance(error, ValueError | TypeError)
    found = re.match(rf"argument {re.escape(argument)}(\[\d+\])?: got (.+), allowed: (.+)", error.detail, re.DOTALL)
    assert found, f"{argument}={value!r}: {error.detail}"
    if hidden:
        assert repr(value)[1:-1] not in str(error)
    else:
        assert any(shown in found[2] for shown in _shown(value)), f"{argument}={value!r}: {error.detail}"


def _shown(value: object) -> list[str]:
    """Any of these shows the value: itself, its kind, its shape, its first part."""
    kinds = [repr(value)[:200], type(value).__name__]
    if isinstance(value, np.ndarray):
        kinds = [str(value.dtype), repr(value.dtype), f"shape {value.shape}"]
        kinds += [repr(each) for each in value.ravel().tolist()]
        kinds += ["read-only", "strides", "ndarray"]
    if isinstance(value, list | tuple):
        kinds += [repr(each) for each in value] + [f"shape ({len(value)},)"]
    if isinstance(value, str | bytes | bytearray):
        kinds.append(f"{len(value)} bytes")
    return kinds


def cells(table: Table) -> list[Any]:
    """One test a function and argument, with all wrong values, for `pytest.mark.parametrize`."""
    return [
        pytest.param(call, argument, values, id=f"{name}-{argument}")
        for name, (call, arguments) in table.items()
        for argument, values in arguments.items()
    ]
