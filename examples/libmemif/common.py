"""What the programs share besides `memif.console`: options, 4.0's socket, an interface that ends with its link."""

import sys
from collections.abc import Callable
from getopt import GetoptError, getopt

from memif.console.connection import MAC, MemifConnection, info, say
from memif.console.exchange import packets, receive, send_in_place
from memif.console.show import interface
from memif.icmp import answer
from memif.libmemif import (
    LIBMEMIF_VERSION,
    MEMIF_DEFAULT_SOCKET_PATH,
    MEMIF_ERR_POLL_CANCEL,
    MEMIF_ERR_SUCCESS,
    itimerspec,
    memif_cancel_poll_event,
    memif_conn_handle_t,
    memif_create_socket,
    memif_delete_socket,
    memif_get_socket_handle,
    memif_get_version_str,
    memif_poll_event,
    memif_socket_args_t,
    memif_socket_handle_t,
    memif_strerror,
    timespec,
)

__all__ = [
    "MAC",
    "MEMIF_DEFAULT_SOCKET_PATH",
    "OneLinkConnection",
    "Options",
    "check",
    "create_socket",
    "info",
    "poll_until_cancelled",
    "respond_in_place",
    "say",
]


def check(function: str, err: int) -> None:
    """End the program when a call failed."""
    if err != MEMIF_ERR_SUCCESS:
        info(f"{function}: {memif_strerror(err)}")
        sys.exit(1)


class Options:
    """Command line options of one letter, as getopt(3) takes them, with the help text of their program.

    table: letter -> (meaning, default); a default of None makes it a switch. about: what the program does.
    help_letter: 4.0's programs disagree on it. ``options["s"]`` is the value; a switch is True when given.
    """

    def __init__(self, name: str, about: str, table: dict[str, tuple[str, str | None]], help_letter: str = "?") -> None:
        self._name, self._about, self._help = name, about, help_letter
        more = {help_letter: ("Show this help and leave.", None), "v": ("Show versions and leave.", None)}
        self._table = table | more
        self._values: dict[str, str | bool] = {
            letter: False if default is None else default for letter, (_, default) in table.items()
        }

    def parse(self, words: list[str]) -> None:
        """Read the command line. Ends the program after help and version, and for wrong options."""
        letters = "".join(letter + ":" * (default is not None) for letter, (_, default) in self._table.items())
        try:
            pairs, rest = getopt(words, letters)
        except GetoptError as error:
            sys.exit(f"{self._name}: {error}")
        if rest:
            sys.exit(f"{self._name}: what is {rest[0]!r}?")
        for option, value in pairs:
            self._take(option[1:], value)

    def _take(self, letter: str, value: str) -> None:
        if letter == self._help:
            say(self._text())
        elif letter == "v":
            say(versions())
        else:
            self._values[letter] = value if self._table[letter][1] is not None else True
            return
        sys.exit(0)

    def _text(self) -> str:
        lines = [
            f"LIBMEMIF EXAMPLE APP: {self._name}",
            "=" * 30,
            versions(),
            "=" * 30,
            self._about,
            "=" * 30,
            f"Usage: {self._name} [OPTIONS]",
            "",
            "Options:",
        ]
        for letter, (meaning, default) in self._table.items():
            lines.append(f"\t-{letter}\t{meaning}{f' Default: {default}' if default else ''}")
        return "\n".join(lines)

    def __getitem__(self, letter: str) -> str:
        return str(self._values[letter])

    def given(self, letter: str) -> bool:
        """Whether a switch was given."""
        return bool(self._values[letter])

    def number(self, letter: str, most: int = 0xFFFFFFFF) -> int:
        """A decimal number; ends the program when it is none."""
        text = self[letter]
        if not text.isascii() or not text.isdigit() or int(text) > most:
            sys.exit(f"{self._name}: -{letter} takes a number up to {most}, not {text!r}")
        return int(text)

    def master(self, letter: str = "r") -> bool:
        """The role; ends the program when it is neither."""
        if self[letter] not in ("slave", "master"):
            sys.exit(f"{self._name}: Invalid role value: {self[letter]!r}")
        return self[letter] == "master"


def versions() -> str:
    """Two lines: of the library's API, of the protocol."""
    return f"libmemif version: {LIBMEMIF_VERSION}\nmemif version: {memif_get_version_str()}"


def create_socket(path: str, app_name: str, *, connect: bool) -> memif_socket_handle_t:
    """Create a socket that polls by itself; connect: try to connect every two seconds (slaves)."""
    every = timespec(2 if connect else 0, 0)
    err, sock = memif_create_socket(
        memif_socket_args_t(path=path, app_name=app_name, connection_request_timer=itimerspec(every, every))
    )
    check("memif_create_socket", err)
    assert sock is not None
    return sock


def poll_until_cancelled(sock: memif_socket_handle_t, *interfaces: MemifConnection) -> int:
    """Poll until a callback cancels that, or Ctrl-C; then delete everything. -> exit status."""
    err: int = MEMIF_ERR_SUCCESS
    try:
        while err == MEMIF_ERR_SUCCESS:
            err = memif_poll_event(sock, -1)
    except KeyboardInterrupt:
        err = MEMIF_ERR_POLL_CANCEL
    for c in interfaces:
        if c.conn:
            c.delete()
    memif_delete_socket(sock)
    if err == MEMIF_ERR_POLL_CANCEL:
        return 0
    info(f"memif_poll_event: {memif_strerror(err)}")
    return 1


class OneLinkConnection(MemifConnection):
    """An interface of 4.0's programs: shows its details when the link comes up, and ends the program when it goes."""

    def on_connect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """The link is up."""
        super().on_connect(conn, ctx)
        say("\n".join(["MEMIF DETAILS", "=" * 30, *interface(self)]))
        return 0

    def on_disconnect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """The link has gone: stop polling."""
        super().on_disconnect(conn, ctx)
        sock = memif_get_socket_handle(conn)
        if sock is not None:
            memif_cancel_poll_event(sock)
        return 0


def respond_in_place(
    c: MemifConnection, qid: int, make: Callable[[MemifConnection, memoryview], bool] | None = None
) -> None:
    """Slave: answer requests where they lie and send the buffers as they are, without a copy.

    make: turns a packet's first buffer into the answer's, False for none; ARP and echo by default.
    """

    def answered_by_default(c: MemifConnection, frame: memoryview) -> bool:
        return answer(frame, c.ip, c.mac)

    reply = make or answered_by_default

    def handle(n: int) -> None:
        answered = [packet for packet in packets(c, qid, c.rx_bufs[:n]) if reply(c, memoryview(packet[0]))]
        send_in_place(c, c.tx_qid(qid), [buf for packet in answered for buf in packet])

    receive(c, qid, handle)
