"""Fixtures for every test: a socket path, a testpmd factory, and the check that nothing is left behind."""

import contextlib
import gc
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from memif.testing import Resources, leaked
from patience import within
from peers.second_try import SecondTry
from peers.tap import KernelPort
from peers.testpmd import Testpmd

_LEAK_GRACE = 1.0  # seconds: a thread that has just been told to end may take a moment
_failed = pytest.StashKey[bool]()
_peers = pytest.StashKey[list[Testpmd]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of this suite, and the second try."""
    config.addinivalue_line("markers", "dpdk: needs dpdk-testpmd and root")
    config.addinivalue_line("markers", "leaks: leaves something open on purpose; no leak check")
    config.addinivalue_line("markers", "nosanitizer: cannot run with the sanitizers loaded (make sanitize)")
    config.pluginmanager.register(SecondTry())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stretch each test's time limit as all other upper bounds, and put the files with long tests first.

    Several workers take whole files: one that starts a long file last keeps all others waiting.
    """
    longest: dict[Path, float] = {}
    for item in items:
        own = item.get_closest_marker("timeout")
        limit = float(own.args[0] if own else config.getini("timeout") or 0)
        longest[item.path] = max(limit, longest.get(item.path, 0.0))
        item.add_marker(pytest.mark.timeout(within(limit)), append=False)
    items.sort(key=lambda item: -longest[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures (for the leak check) and show the peers' logs with them."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
        for peer in item.stash.get(_peers, []):
            peer.ends()
        logs = [(f"testpmd {peer.settings.role} {peer.prefix}", peer.log) for peer in item.stash.get(_peers, [])]
        report.sections += [section for section in logs if section[1]]
    return report


@pytest.fixture(scope="module", autouse=True)
def spare_collector() -> None:
    """Keep the collections of the leak check quick: what is there before a file's first test is left out of them.

    Modules and thousands of collected tests are 180 000 objects, which take 120 ms at each of two collections a test.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which more descriptors, memfd mappings or threads are there than before.

    A failed test is left alone: its traceback keeps its locals, and with them all they own, alive.
    """
    gc.collect()
    before = Resources.now()
    yield
    if request.node.stash.get(_failed, False) or request.node.get_closest_marker("leaks"):
        return

    left = leaked(before, _LEAK_GRACE)
    if left:
        pytest.fail("leaked:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path for a control socket in a directory of its own, far below the 107 bytes that AF_UNIX allows."""
    folder = Path(tempfile.mkdtemp(prefix="memif", dir="/tmp"))
    yield str(folder / "m.sock")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def testpmd(request: pytest.FixtureRequest, socket_path: str) -> Iterator[Callable[..., Testpmd]]:
    """Factory: ``testpmd("server", forward="rxonly")`` returns a running `Testpmd` on `socket_path`.

    All that were made end with the test, the last first; one that crashed fails it.
    """
    made: list[Testpmd] = request.node.stash.setdefault(_peers, [])

    def make(role: str = "server", path: str = socket_path, **options: Any) -> Testpmd:
        peer = Testpmd(path, role, **options)
        made.append(peer)
        return peer.open()

    yield make
    _stop_all(made)
    errors = [error for peer in reversed(made) if (error := _quit(peer))]
    if errors:
        raise errors[0]


def _stop_all(peers: list[Testpmd]) -> None:
    """Let none forward while another goes away, for that can crash it."""
    for peer in peers:
        with contextlib.suppress(AssertionError):  # `_quit` tells of it
            peer.stop()


def _quit(peer: Testpmd) -> AssertionError | None:
    try:
        peer.quit()
    except AssertionError as error:
        return error
    finally:
        peer.discard()
    return None


@pytest.fixture
def kernel_port(request: pytest.FixtureRequest, socket_path: str) -> Iterator[Callable[..., KernelPort]]:
    """Factory: ``kernel_port("client", address="10.0.0.1/24")`` wires the kernel's stack to `socket_path`."""
    peers: list[Testpmd] = request.node.stash.setdefault(_peers, [])
    with contextlib.ExitStack() as stack:

        def make(role: str = "client", path: str = socket_path, **options: Any) -> KernelPort:
            port = KernelPort(path, role, **options)
            peers.append(port.testpmd)
            return stack.enter_context(port)

        yield make
        _stop_all(peers)
