"""The only second try that a failed test gets: where testpmd itself died by a signal.

DPDK's memif driver has crashes of its own. A test that failed while (or since) its testpmd was dead says nothing about
this package and runs once more; the end of the run tells how many did, and which. All else that fails has failed.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from _pytest.runner import runtestprotocol

_PROPERTY = "testpmd_crash"


@dataclass(frozen=True)
class Crash:
    """A testpmd that died by a signal which was not ours."""

    name: str
    number: int
    asked: bool  # after the test's own part, or when it was told to quit

    def __str__(self) -> str:
        when = "at its end" if self.asked else "in the test"
        return f"{self.name} died {when} of {signal.Signals(self.number).name}"


_crashes: list[Crash] = []  # of the test that runs now


def note_crash(name: str, returncode: int, *, asked: bool) -> None:
    """Called by a Testpmd that has found its process dead."""
    if returncode < 0:
        _crashes.append(Crash(name, -returncode, asked))


def _excuses(reports: list[pytest.TestReport]) -> list[Crash]:
    """The crashes that explain why a test failed; none where the test would have failed without them.

    One that quits badly after the test's own part failed is no explanation.
    """
    failed = {report.when for report in reports if report.failed}
    if not failed:
        return []
    return [crash for crash in _crashes if not crash.asked or failed == {"teardown"}]


class SecondTry:
    """Plugin: runs such a test again, and counts."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """As pytest's own, with the second try in between."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        _crashes.clear()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        excuses = _excuses(reports)
        if excuses:
            _crashes.clear()
            item.stash = pytest.Stash()
            item._initrequest()  # type: ignore[attr-defined]
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            reports[-1].user_properties.append((_PROPERTY, "; ".join(map(str, excuses))))
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Say which tests were tried again."""
        again = dict(_tried_again(terminalreporter))
        if again:
            terminalreporter.section(f"tried again, for testpmd crashed: {len(again)}")
            for nodeid, crash in again.items():
                terminalreporter.line(f"{nodeid}: {crash}")


def _tried_again(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, str]]:
    for reports in reporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    yield report.nodeid, str(value)
