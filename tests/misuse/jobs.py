"""What a child can be told to do."""

import ctypes
import os
import sys
import time
from collections.abc import Callable

from misuse import interruptions, sequences, situations
from misuse.world import World


def run(words: list[str]) -> int:
    """-> exit status, 0 when nothing was wrong."""
    if words[0] == "selftest":
        return situations.judged(SELFTEST[words[1]], leave=words[1] == "at exit")
    if words[0] == "interruption":
        World().end()
        return situations.judged(interruptions.INTERRUPTIONS[words[1]])
    if words[0] == "random":
        World().end()
        return situations.judged(lambda judge: sequences.run(int(words[1]), judge))
    return situations.run(words[0], words[1])


class _Noisy:
    def __del__(self) -> None:
        raise ValueError("in a finalizer")


def _hang(judge: situations.Judge) -> None:
    import faulthandler

    faulthandler.dump_traceback_later(0.2, exit=True)
    time.sleep(60)


def _crash(judge: situations.Judge) -> None:
    ctypes.string_at(8)


def _unraisable(judge: situations.Judge) -> None:
    _Noisy()


def _at_exit(judge: situations.Judge) -> None:
    sys.unraisablehook = sys.__unraisablehook__
    sys.modules["__main__"].__dict__["noisy"] = _Noisy()


def _leak(judge: situations.Judge) -> None:
    os.open(os.devnull, os.O_RDONLY)


#: Jobs that show that the child notices.
SELFTEST: dict[str, Callable[[situations.Judge], None]] = {
    "fault": lambda judge: judge.call("expected this", lambda: 1 // 0),
    "crash": _crash,
    "hang": _hang,
    "leak": _leak,
    "unraisable": _unraisable,
    "at exit": _at_exit,
    "nothing": lambda judge: None,
}
