"""Every public object in every situation: each in a child process that must end by itself, without a sound.

Allowed is a result, or an exception that says what is wrong. Not allowed: a signal, a hang, an exception that is
ignored somewhere, a descriptor, thread or mapping left behind, a byte written that belongs to the peer.

``MEMIF_MISUSE_TRACE=1 PYTHONPATH=tests python -m misuse.child OBJECT SITUATION`` shows the calls of one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from misuse.objects import ENTRIES, covered, public_classes, usable
from misuse.situations import SITUATIONS
from misuse.spawner import Spawner

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    """What starts the children."""
    with Spawner() as made:
        yield made


def test_the_table_is_complete() -> None:
    """A class that users can get at and that nobody misuses here is a hole."""
    assert {f"{kind.__module__}.{kind.__name__}" for kind in public_classes() - covered()} == set()


def test_every_entry_can_fail(spawner: Spawner, tmp_path: Path) -> None:
    """The child tells of what is wrong: with a wrong expectation, it does."""
    assert "expected this" in spawner.run("selftest", "fault")
    assert "signal 11" in spawner.run("selftest", "crash")
    assert "Timeout" in spawner.run("selftest", "hang")
    assert "leaked" in spawner.run("selftest", "leak")
    assert "unraisable" in spawner.run("selftest", "unraisable")
    assert "Exception ignored" in spawner.run("selftest", "at exit")
    assert spawner.run("selftest", "nothing") == ""


@pytest.mark.parametrize("name", ENTRIES)
def test_misuse(spawner: Spawner, name: str) -> None:
    if name not in usable():
        pytest.skip(f"{name}: needs root")
    said = [text for where in SITUATIONS if (text := spawner.run(name, where))]
    assert not said, "\n".join(said)
