"""Running a console: lines and the library's descriptors in one epoll, as the C program has it.

`run` runs one to its end, on a terminal with line editing, history and completion by the standard library's readline.
`watch` and `control_events` translate between epoll and the library, for any program that has an epoll of its own.
"""

import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from memif.console.commands import LONGEST_LINE, Console
from memif.console.connection import info, prompted
from memif.libmemif import (
    MEMIF_ERR_BAD_FD,
    MEMIF_ERR_SUCCESS,
    MEMIF_FD_EVENT_DEL,
    MEMIF_FD_EVENT_ERROR,
    MEMIF_FD_EVENT_MOD,
    MEMIF_FD_EVENT_READ,
    MEMIF_FD_EVENT_WRITE,
    memif_control_fd_handler,
    memif_strerror,
)

#: Stands before each line that is typed on a terminal.
PROMPT = "memif> "
_HISTORY = 1000


def watch(epoll: select.epoll, fd: int, events: int) -> int:
    """Do what the library's callback for control descriptors is told.

    Args:
        epoll: The program's.
        fd: The library's descriptor.
        events: ``MEMIF_FD_EVENT_*``: what to wait for, and whether the descriptor is known (``MOD``) or goes (``DEL``).

    Returns:
        0, or -1 for a descriptor that epoll refuses, as the callback returns it.
    """
    try:
        if events & MEMIF_FD_EVENT_DEL:
            epoll.unregister(fd)
            return 0
        wanted = select.EPOLLIN if events & MEMIF_FD_EVENT_READ else 0
        wanted |= select.EPOLLOUT if events & MEMIF_FD_EVENT_WRITE else 0
        if events & MEMIF_FD_EVENT_MOD:
            epoll.modify(fd, wanted)
        else:
            epoll.register(fd, wanted)
    except OSError:
        return -1
    return 0


def control_events(what: int) -> int:
    """Translate what epoll found at a control descriptor into the events that the library's handlers take."""
    events = MEMIF_FD_EVENT_READ if what & select.EPOLLIN else 0
    events |= MEMIF_FD_EVENT_WRITE if what & select.EPOLLOUT else 0
    events |= MEMIF_FD_EVENT_ERROR if what & (select.EPOLLERR | select.EPOLLHUP) else 0
    return events


class Lines:
    """Lines from a descriptor, which stays the caller's. At the end of input the last line may be incomplete."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def read(self) -> list[str] | None:
        """Read once; return the lines that are complete now, None at the end of input."""
        try:
            data = os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        except OSError:
            data = b""  # a terminal that was hung up says EIO
        if not data:
            rest, self._rest = self._rest, b""
            return [rest.decode(errors="replace")] if rest else None
        *lines, self._rest = (self._rest + data).split(b"\n")
        # A line without an end must not fill our memory: enough is kept to see that it is too long.
        self._rest = self._rest[: 4 * LONGEST_LINE + 4]
        return [line.decode(errors="replace") for line in lines]


class Loop:
    """Runs a console: from a descriptor (`run`), or from lines of another thread (`submit`)."""

    def __init__(self, console: Console) -> None:
        """Set the library up; check `ok` afterwards, and call `close` at the end."""
        self.console = console
        self.epoll: select.epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._submitted: queue.SimpleQueue[tuple[str | None, threading.Event]] = queue.SimpleQueue()
        self._running = True
        self.epoll.register(self._wake, select.EPOLLIN)
        self.ok: bool = console.open(self.control_fd_update) == MEMIF_ERR_SUCCESS

    def close(self) -> None:
        """Delete all interfaces and close the descriptors."""
        self.console.close()
        self.epoll.close()
        os.close(self._wake)

    def control_fd_update(self, fd: int, events: int) -> int:
        """The library's callback: a descriptor comes, changes or goes."""
        return watch(self.epoll, fd, events)

    def run(self, fd: int) -> None:
        """Take commands from descriptor `fd` until ``exit`` or the end of input."""
        lines = Lines(fd)
        try:
            self.epoll.register(fd, select.EPOLLIN)
            always = False
        except OSError:
            always = True  # a file: epoll does not take those, and they never block
        while self._running:
            events = self._wait(always)
            if always or any(ready == fd for ready, _ in events):
                self._take(lines)
            self._handle([event for event in events if event[0] != fd])

    def _take(self, lines: Lines) -> None:
        fresh = lines.read()
        if fresh is None:
            self._running = False
            return
        for line in fresh:
            if self._running:
                self._running = self.console.run_line(line)

    def run_submitted(self) -> None:
        """Take commands from `submit` until ``exit`` or its None."""
        try:
            while self._running:
                self._handle(self._wait(False))
        finally:
            self._running = False

    def submit(self, line: str | None) -> bool:
        """From another thread: run a command and wait for it; None ends the loop. False once the loop has ended."""
        done = threading.Event()
        self._submitted.put((line, done))
        os.eventfd_write(self._wake, 1)
        while not done.wait(0.1):
            if not self._running:
                return False
        return self._running

    def _wait(self, always: bool) -> list[tuple[int, int]]:
        busy = self.console.poll()
        return self.epoll.poll(0 if always or busy else None)

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, what in events:
            if fd == self._wake:
                os.eventfd_read(fd)
                self._run_submitted()
                continue
            self._control(fd, control_events(what))

    def _control(self, fd: int, flags: int) -> None:
        # Handling an earlier descriptor of the same batch may have closed this one: that is not an error.
        err = memif_control_fd_handler(fd, flags)
        if err not in (MEMIF_ERR_SUCCESS, MEMIF_ERR_BAD_FD):
            info(f"memif_control_fd_handler: {memif_strerror(err)}")

    def _run_submitted(self) -> None:
        while not self._submitted.empty():
            line, done = self._submitted.get()
            try:
                self._running = self._running and line is not None and self.console.run_line(line)
            finally:
                done.set()


def run(console: Console, *, history: str | None = None, stdin: int = 0) -> int:
    """Run a console until ``exit``, the end of input or Ctrl-C.

    On a terminal there is a prompt, and lines can be edited, completed with Tab and recalled.

    Args:
        console: The console; it is opened and closed here.
        history: File in which lines typed on a terminal are kept; None: nowhere.
        stdin: Descriptor of the commands. Only 0 can be a terminal.

    Returns:
        The exit status.
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
    """Lines are edited here, in the main thread; another thread runs commands and handles events."""
    file = None if history is None else Path(history).expanduser()
    _prepare(readline, Completer(loop.console), file)
    thread = threading.Thread(target=loop.run_submitted, name="console", daemon=True)
    thread.start()
    try:
        while True:
            try:
                with prompted(PROMPT):
                    line = input(PROMPT)
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
        """Complete for `console`; `line` returns the text and the start of its last word (default: readline's)."""
        self._console = console
        self._line = line or _line_so_far

    def __call__(self, text: str, state: int) -> str | None:
        """Return the `state`-th way to complete `text`, None after the last, as readline asks for it."""
        found = self.candidates(text)
        return found[state] if state < len(found) else None

    def candidates(self, text: str) -> list[str]:
        """Return all ways to complete the word `text`, with a blank behind."""
        line, start = self._line()
        before = line[:start].split()
        return [f"{word} " for word in self._words(before) if word.startswith(text)]

    def _words(self, before: list[str]) -> list[str]:
        """Words that may follow these."""
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
