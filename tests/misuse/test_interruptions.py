"""Python code that runs in the middle of calls and takes everything away: collections, signals, trace functions,
finalizers, memory that is out. Each in a child process."""

from collections.abc import Iterator

import pytest

from misuse.interruptions import INTERRUPTIONS
from misuse.spawner import Spawner

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    """What starts the children."""
    with Spawner() as made:
        yield made


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_interruption(spawner: Spawner, name: str) -> None:
    assert spawner.run("interruption", name) == ""
