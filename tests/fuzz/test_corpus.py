"""Replay of every input that fuzzing kept: what once reached a corner of the code must go on to be harmless there."""

import random

import pytest

from fuzz.run import read_corpus
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_replay(name: str) -> None:
    inputs = read_corpus(name)
    assert len(inputs) >= 10
    for data in inputs:
        try:
            TARGETS[name](data)
        except BaseException as error:
            error.add_note(f"with the input {data.hex()}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_mutants_of_the_corpus(name: str) -> None:
    """A short blind run around the corpus, the same each time."""
    dice = random.Random(name)
    inputs = read_corpus(name)
    for _ in range(1500):
        data = bytearray(dice.choice(inputs))
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data) + 1)
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        try:
            TARGETS[name](bytes(data))
        except BaseException as error:
            error.add_note(f"with the input {bytes(data).hex()}")
            raise


def test_the_guard_pages_guard() -> None:
    """Reading one byte beside the rings' memory kills the process, so a harmless replay means something."""
    from children import in_child
    from fuzz.targets import _SIZE, _Guarded

    def read(offset: int) -> int:
        import ctypes

        guarded = _Guarded()
        start = ctypes.addressof(ctypes.c_char.from_buffer(guarded.memory))
        return ctypes.string_at(start + offset, 1)[0]

    assert in_child(lambda: read(0)) == in_child(lambda: read(_SIZE - 1)) == 0
    assert in_child(lambda: read(-1)) & 0x7F
    assert in_child(lambda: read(_SIZE)) & 0x7F
