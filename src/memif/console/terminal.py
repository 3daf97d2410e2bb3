"""A console on a terminal: line editing, history and completion by the standard library's readline."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from memif.console.commands import Console
from memif.console.loop import Loop

_HISTORY = 1000


def run(console: Console, *, history: str | None = None, stdin: int = 0) -> int:
    """Run a console until ``exit``, the end of input or Ctrl-C. -> exit status.

    On a terminal lines can be edited and completed (Tab), and are remembered in the file `history` (None: only until
    the end); otherwise plain lines are read from descriptor `stdin`.
    """
    loop = Loop(console)
    try:
        if not loop.ok:
            return 1
        console.banner()
        readline = _readline() if stdin == 0 and _is_terminal() else None
        if readline is None:
            loop.run(stdin)
        else:
            _interact(loop, readline, history)
        return 0
    finally:
        loop.close()


def _is_terminal() -> bool:
    return os.isatty(0) and os.isatty(1) and sys.stdin is not None


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # some builds of Python have none: then lines are not edited
        return None
    return readline


def _interact(loop: Loop, readline: ModuleType, history: str | None) -> None:
    """Lines are edited here, in the main thread; commands and events are the other thread's."""
    file = None if history is None else Path(history).expanduser()
    _prepare(readline, Completer(loop.console), file)
    thread = threading.Thread(target=loop.run_submitted, name="console", daemon=True)
    thread.start()
    try:
        while True:
            try:
                line = input()
            except EOFError:
                break
            except UnicodeDecodeError:
                continue
            if not loop.submit(line):
                break
    finally:
        loop.submit(None)
        thread.join(5.0)
        _remember(readline, file)


def _prepare(readline: Any, completer: "Completer", file: Path | None) -> None:
    readline.set_completer(completer)
    readline.set_completer_delims(" ")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_history_length(_HISTORY)
    if file is not None:
        try:
            readline.read_history_file(file)
        except OSError:  # none yet, or none that we may read: start without
            pass


def _remember(readline: Any, file: Path | None) -> None:
    readline.set_completer(None)
    if file is not None:
        try:
            readline.write_history_file(file)
        except OSError:
            pass


class Completer:
    """Completes commands, the numbers of existing interfaces, and the words of ``rx-mode``."""

    def __init__(self, console: Console, line: Callable[[], tuple[str, int]] | None = None) -> None:
        """line: returns the text so far and where the word that is completed begins; readline's by default."""
        self._console = console
        self._line = line or _line_so_far

    def __call__(self, text: str, state: int) -> str | None:
        """readline's protocol: the `state`-th way to complete `text`, None after the last."""
        found = self.candidates(text)
        return found[state] if state < len(found) else None

    def candidates(self, text: str) -> list[str]:
        """All ways to complete the word `text`; complete words get a blank behind."""
        line, start = self._line()
        before = line[:start].split()
        return [f"{word} " for word in self._words(before) if word.startswith(text)]

    def _words(self, before: list[str]) -> list[str]:
        """What may come after these words."""
        names = [name for name, _, _ in self._console.commands]
        if not before:
            return names
        command = next((name for name in names if before[0].startswith(name)), None)
        if command in ("del", "ip-set", "rx-mode", "send") and len(before) == 1:
            return [str(index) for index in sorted(self._console.connections)]
        if command == "rx-mode" and len(before) == 3:
            return ["polling", "interrupt"]
        return []


def _line_so_far() -> tuple[str, int]:
    import readline

    return readline.get_line_buffer(), readline.get_begidx()
