"""The leak check must fail a test that leaks, and name what it left."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LEAKY = """
import mmap, os, threading, time
kept = []

def test_descriptor():
    kept.append(os.eventfd(0))

def test_mapping():
    fd = os.memfd_create("leaked-region")
    os.ftruncate(fd, 4096)
    kept.append(mmap.mmap(fd, 4096))
    os.close(fd)

def test_thread():
    thread = threading.Thread(target=time.sleep, args=(3,), name="leaked-thread", daemon=True)
    thread.start()

def test_clean():
    os.close(os.eventfd(0))
    short = threading.Thread(target=time.sleep, args=(0.1,))
    short.start()
"""


def test_each_kind_is_found(pytester: pytest.Pytester) -> None:
    ours = Path(__file__).parent
    fixtures = (ours / "conftest.py").read_text().replace("_LEAK_GRACE = 1.0", "_LEAK_GRACE = 0.4")
    pytester.makeconftest(f"import sys; sys.path.insert(0, {str(ours)!r})\n{fixtures}")
    pytester.makepyfile(LEAKY)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines_random(
        ["*descriptor *eventfd*", "*mapping *memfd:leaked-region*", "*thread leaked-thread*"]
    )
