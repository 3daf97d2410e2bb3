"""A shell in a terminal, for what the pages show of the tools at work. Needs tmux."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

#: Finds the tool that belongs to this interpreter.
SEARCH_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


_NUMBERS = itertools.count()


class Terminal:
    """A tmux session of one window, with a plain shell in the current folder."""

    def __init__(self, columns: int, rows: int) -> None:
        # One server each: the last one may be about to end.
        self._socket = f"memif-pages-{os.getpid()}-{next(_NUMBERS)}"
        self._shell = (
            f"env -i PATH='{SEARCH_PATH}' HOME=$HOME TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 PS1='$ ' "
            "bash --norc --noprofile"
        )
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", str(rows), self._shell)
        self.wait_for_prompt()

    def _tmux(self, *words: str) -> str:
        words = "tmux", "-L", self._socket, *words
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=10).stdout

    def enter(self, line: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._tmux("send-keys", "C-c")

    def clear(self) -> None:
        """An empty screen."""
        self._tmux("send-keys", "-R")
        self._tmux("clear-history")
        self.enter("clear")
        self.wait_for_prompt()

    def wait_for_prompt(self) -> None:
        """Wait until the shell asks for the next line. TimeoutError if it does not."""
        self._wait(lambda screen: screen.rstrip().rpartition("\n")[2] == "$")

    def wait_for(self, text: str) -> None:
        """Wait until that is on the screen. TimeoutError if it does not come."""
        self._wait(lambda screen: text in screen)

    def _wait(self, so: Callable[[str], bool], timeout: float = 45.0) -> None:
        deadline = time.monotonic() + timeout
        while not so(self.screen()):
            if time.monotonic() > deadline:
                raise TimeoutError(self.screen())
            time.sleep(0.1)

    def screen(self, *, colours: bool = False) -> str:
        """What is on it; with the colours as escape sequences if wanted."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def close(self) -> None:
        """End it and all in it."""
        self._tmux("kill-server")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
