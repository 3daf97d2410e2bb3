"""Run coroutines on asyncio's own loop and on uvloop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

# uvloop keeps a pair of pipes for signals from its first run on; that is no leak of ours.
uvloop.run(asyncio.sleep(0))

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """``run(coroutine)`` returns its result; an error that reached the loop's handler, or a task left over, fails."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(work: Coroutine[Any, Any, Any], limit: float = 30.0) -> Any:
        errors: list[dict[str, Any]] = []

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: errors.append(context))
            async with asyncio.timeout(limit):
                result = await work
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left: {left}"
            return result

        with asyncio.Runner(loop_factory=factory) as loop:
            result = loop.run(main())
        assert not errors, errors
        return result

    return runner


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost wake-up costs a minute instead of 100 ms: what still is quick was woken, however slow the machine is."""
    for module in "queues", "interface", "waiting":
        monkeypatch.setattr(f"memif.aio.{module}.LONGEST_SLEEP", 60.0)
