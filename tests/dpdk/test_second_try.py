"""What failed has failed, unless a testpmd died by a signal: then it runs once more, and the end says so."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.dpdk

ROOT = Path(__file__).parents[2]
PLUGINS = ["-p", "conftest", "-p", "no:cacheprovider"]
HEAD = """
    import os, signal
    from pathlib import Path
    from peers.testpmd import Testpmd, poll_until

    tries = Path(__file__).with_suffix(".tries")

    def crash(peer):
        os.kill(peer.pid, signal.SIGSEGV)
        assert poll_until(lambda: not peer.alive, 10)

    def count():
        with tries.open("a") as file:
            file.write("x")
        return len(tries.read_text())
"""


def run(folder: Path, body: str, *words: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a file of one test with this suite's fixtures: what came of it, and how often its body ran."""
    file = folder / "test_it.py"
    file.write_text(textwrap.dedent(HEAD) + textwrap.dedent(body))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", *PLUGINS, *words, file],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done, len((folder / "test_it.tries").read_text())


def closing(done: subprocess.CompletedProcess[str]) -> str:
    """Pytest's last line, without its ornaments and its time."""
    return re.sub(r"^=+ | in [0-9.]+s.*$", "", done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", [(), ("-n", "1")])
def test_a_crash_in_the_test(tmp_path: Path, words: tuple[str, ...]) -> None:
    body = """
        def test_it(testpmd):
            peer = testpmd("server")
            if count() == 1:
                crash(peer)
                assert False, "for the peer is gone"
    """
    done, tries = run(tmp_path, body, *words)
    assert (tries, closing(done), done.returncode) == (2, "1 passed", 0), done.stdout
    assert "tried again, for testpmd crashed: 1" in done.stdout
    assert re.search(r"test_it: testpmd server \S+ died in the test of SIGSEGV", done.stdout)


def test_a_crash_each_time(tmp_path: Path) -> None:
    body = """
        def test_it(socket_path):
            with Testpmd(socket_path) as peer:
                count()
                crash(peer)
                assert False, "for the peer is gone"
    """
    done, tries = run(tmp_path, body)
    assert (tries, closing(done), done.returncode) == (2, "1 failed", 1), done.stdout
    assert "tried again, for testpmd crashed: 1" in done.stdout


NO_EXCUSE = {
    "nothing crashed": """
        def test_it(testpmd):
            testpmd("server")
            assert count() > 1
    """,
    "it crashed after the failure": """
        import pytest

        @pytest.fixture
        def later(testpmd):
            peer = testpmd("server")
            yield
            crash(peer)

        def test_it(later):
            assert count() > 1
    """,
    "the crash was the point": """
        def test_it(testpmd):
            crash(testpmd("server", tolerate_crash=True))
            assert count() > 1
    """,
    "we killed it": """
        def test_it(testpmd):
            testpmd("server").kill9()
            assert count() > 1
    """,
}


@pytest.mark.parametrize("name", NO_EXCUSE)
def test_no_second_try(tmp_path: Path, name: str) -> None:
    done, tries = run(tmp_path, NO_EXCUSE[name])
    assert (tries, done.returncode) == (1, 1), done.stdout
    assert closing(done).startswith("1 failed")
    assert "tried again" not in done.stdout
