"""The ten commands. Lines come from `memif.console.loop` or any other place, one thread at a time."""

import re
from collections.abc import Callable, Iterator
from typing import ClassVar

from memif.console import show
from memif.console.connection import MemifConnection, info, say
from memif.console.exchange import EchoSender, respond, respond_all, respond_arp
from memif.icmp import parse_mac
from memif.libmemif import (
    MEMIF_ERR_SUCCESS,
    MEMIF_RX_MODE_INTERRUPT,
    MEMIF_RX_MODE_POLLING,
    memif_cleanup,
    memif_conn_args_t,
    memif_get_version,
    memif_init,
    memif_set_rx_mode,
    memif_strerror,
)

#: Interfaces that a console can have.
MAX_CONNS = 50
#: Characters of a line; longer ones are refused.
LONGEST_LINE = 255
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_OVER, _UNDER = "connection array overflow", "don't even try..."

Handler = Callable[[MemifConnection, int], None]


class Console:
    """The interfaces of one program and the commands on them: `open` sets the library up, `run_line` runs a command.

    Attributes:
        socket: The control socket of all interfaces; None: ``/run/vpp/memif.sock``.
        connections: The interfaces by index.
        senders: The last thread of `send` of each interface.
        polled: Queues that are polled: (index, qid).
    """

    app_name: ClassVar[str] = "ICMP_Responder"
    #: The version of the C library whose console this is.
    version: ClassVar[str] = "2.0"
    if_name: ClassVar[str] = "memif_connection"
    log2_ring_size: ClassVar[int] = 11
    rings: ClassVar[int] = 1
    #: What an interface does with packets, by the third argument of ``conn``; "" without one.
    handlers: ClassVar[dict[str, Handler | None]] = {"": respond, "0": respond_all, "1": respond_arp}
    #: Command, its arguments as `help` shows them, what it does, in the order in which they are looked up.
    commands: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("help", "", "list the commands"),
        ("exit", "", "delete all interfaces and leave"),
        (
            "conn",
            "<index> <mode> [<interrupt-desc>]",
            "create an interface with this index and id; mode 0: slave, 1: master; "
            "interrupt-desc none: answer, 0: wait while the ring is full, 1: answer ARP only",
        ),
        ("del", " <index>", "delete an interface"),
        ("show", "", "show the details of all interfaces"),
        ("ip-set", "<index> <ip-addr>", "set the IP address of an interface"),
        ("rx-mode", "<index> <qid> <polling|interrupt>", "set how a queue receives"),
        ("sh-count", "", "show the counters"),
        ("cl-count", "", "set the counters to zero"),
        ("send", "<index> <tx> <ip> <mac>", "send so many ICMP echo requests"),
    )

    def __init__(self, socket: str | None = None) -> None:
        self.socket = socket
        self.connections: dict[int, MemifConnection] = {}
        self.senders: dict[int, EchoSender] = {}
        self.polled: set[tuple[int, int]] = set()

    # -- the program

    def open(self, on_control_fd_update: Callable[[int, int], int] | None) -> int:
        """Set the library up, with its callback for control descriptors; return its code."""
        err = memif_init(on_control_fd_update, self.app_name, None, None)
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_init: {memif_strerror(err)}")
        return err

    def close(self) -> None:
        """Delete all interfaces."""
        for sender in self.senders.values():
            sender.stop()
        for index in list(self.connections):
            self._delete(index)
        err = memif_cleanup()
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_cleanup: {memif_strerror(err)}")
        for sender in self.senders.values():
            sender.join(1.0)

    def banner(self) -> None:
        """Print the program's name, its versions and its commands."""
        say("\n".join(self._banner()))

    def _banner(self) -> Iterator[str]:
        yield f"LIBMEMIF EXAMPLE APP: {self.app_name}"
        yield "=" * 30
        yield f"libmemif version: {self.version}"
        yield f"memif version: {memif_get_version()}"
        yield "commands:"
        for name, arguments, text in self.commands:
            yield f"\t{name}{' ' if arguments else ''}{arguments} - {text}"

    def poll(self) -> bool:
        """Receive on the queues that are polled; return whether there are any."""
        busy = False
        for index, qid in list(self.polled):
            c = self.connections.get(index)
            if c is not None and c.up and c.handler is not None:
                c.handler(c, qid)
                busy = True
        return busy

    # -- lines

    def run_line(self, line: str) -> bool:
        """Run one command, and print what is wrong with it; return False for the command that ends the program."""
        if len(line) > LONGEST_LINE:
            info(f"line of more than {LONGEST_LINE} characters")
            return True
        word, *arguments = line.split() or [""]
        if not word:
            return True
        # `exit` is looked for first, as in C; names match by their own length: "showing" is "show".
        for name, _, _ in self.commands:
            if word.startswith(name):
                return self._run(name, arguments)
        info(f"unknown command: {_printable(word)}")
        return True

    def _run(self, name: str, arguments: list[str]) -> bool:
        if name == "exit":
            return False
        run: Callable[[list[str]], None] = getattr(self, f"do_{name.replace('-', '_')}")
        run(arguments)
        return True

    def do_help(self, _: list[str]) -> None:
        """``help``"""
        self.banner()

    def do_conn(self, arguments: list[str]) -> None:
        """``conn <index> <mode> [<interrupt-desc>]``"""
        index = self._number(arguments, 0, "expected id")
        mode = None if index is None else self._number(arguments, 1, "expected mode <0|1>")
        if index is None or mode is None or not in_range(index):
            return
        letter = arguments[2][:1] if len(arguments) > 2 else ""
        if letter not in self.handlers:
            info("Unknown interrupt descriptor")
            return
        self._create(index, bool(mode), self.handlers[letter])

    def _create(self, index: int, master: bool, handler: Handler | None) -> None:
        c = self.connections.get(index) or self.connection(index)
        err = c.create(self._arguments(index, master), handler)
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_create: {memif_strerror(err)}")
            return
        self.connections[index] = c

    def connection(self, index: int) -> MemifConnection:
        """Make the entry of a new interface."""
        return MemifConnection(index)

    def _arguments(self, index: int, master: bool) -> memif_conn_args_t:
        return memif_conn_args_t(
            socket_filename=self.socket,
            is_master=int(master),
            interface_id=index,
            interface_name=self.if_name,
            log2_ring_size=self.log2_ring_size,
            buffer_size=2048,
            num_s2m_rings=self.rings,
            num_m2s_rings=self.rings,
        )

    def do_del(self, arguments: list[str]) -> None:
        """``del <index>``"""
        index = self._number(arguments, 0, "expected id")
        if index is not None and in_range(index):
            self._delete(index)

    def _delete(self, index: int) -> None:
        c = self.connections.get(index) or MemifConnection(index)
        err = c.delete()
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_delete: {memif_strerror(err)}")
        self.connections.pop(index, None)
        self.polled = {(i, qid) for i, qid in self.polled if i != index}

    def do_show(self, _: list[str]) -> None:
        """``show``"""
        say("\n".join(show.show(self._in_order())))

    def do_sh_count(self, _: list[str]) -> None:
        """``sh-count``"""
        lines = list(show.counters(self._in_order()))
        if lines:
            say("\n".join(lines))

    def do_cl_count(self, _: list[str]) -> None:
        """``cl-count``"""
        for c in self.connections.values():
            c.clear()

    def do_ip_set(self, arguments: list[str]) -> None:
        """``ip-set <index> <ip-addr>``"""
        c = self._existing(arguments)
        if c is None:
            return
        ip = parse_ip(arguments[1]) if len(arguments) > 1 else None
        if ip is None:
            info("invalid ip address")
            return
        c.ip = ip
        info(f"memif {c.index} ip address set to {show.dotted(ip)}")

    def do_rx_mode(self, arguments: list[str]) -> None:
        """``rx-mode <index> <qid> <polling|interrupt>``"""
        index = self._number(arguments, 0, "expected id")
        qid = None if index is None else self._number(arguments, 1, "expected qid")
        c = None if qid is None else self._existing(arguments)
        if c is None or qid is None:
            return
        word = arguments[2] if len(arguments) > 2 else ""
        if word.startswith("polling"):
            self._set_rx_mode(c, qid, polling=True)
        elif word.startswith("interrupt"):
            self._set_rx_mode(c, qid, polling=False)
        else:
            info("expected rx mode <interrupt|polling>")

    def _set_rx_mode(self, c: MemifConnection, qid: int, *, polling: bool) -> None:
        assert c.conn is not None
        err = memif_set_rx_mode(c.conn, MEMIF_RX_MODE_POLLING if polling else MEMIF_RX_MODE_INTERRUPT, qid)
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_set_rx_mode: {memif_strerror(err)}")
        elif polling:
            self.polled.add((c.index, qid))
        else:
            self.polled.discard((c.index, qid))

    def do_send(self, arguments: list[str]) -> None:
        """``send <index> <tx> <ip> <mac>``"""
        index = self._number(arguments, 0, "expected id")
        count = None if index is None else self._number(arguments, 1, "expected count")
        if index is None or count is None or not in_range(index):
            return
        c = self.connections.get(index)
        if c is None:
            info(f"No connection at index {index}. Thread exiting...")
            return
        self._send(c, count, *[*arguments[2:4], "", ""][:2])

    def _send(self, c: MemifConnection, count: int, ip_text: str, mac_text: str) -> None:
        info(f"PN: {count}")
        say(_printable(ip_text))
        say(_printable(mac_text))
        ip, mac = parse_ip(ip_text), parse_mac(mac_text)
        if ip is None or not self.may_send(mac_text, mac) or count < 0:
            info("Invalid input")
            return
        running = self.senders.get(c.index)
        if running is not None and running.busy:
            info(f"interface {c.index} is sending already")
            return
        self.senders[c.index] = self.sender(c, count, ip, mac)
        self.senders[c.index].start()

    def may_send(self, mac_text: str, mac: bytes | None) -> bool:
        """Return whether `send` works with this MAC address."""
        return mac is not None

    def sender(self, c: MemifConnection, count: int, ip: bytes, mac: bytes | None) -> EchoSender:
        """Make the thread of `send`."""
        return EchoSender(c, count, ip, mac)

    # -- arguments

    def _number(self, arguments: list[str], at: int, otherwise: str) -> int | None:
        """A decimal number; None after printing what was expected."""
        match = _NUMBER.match(arguments[at]) if len(arguments) > at else None
        if match is None:
            info(otherwise)
            return None
        return int(match[0])

    def _existing(self, arguments: list[str]) -> MemifConnection | None:
        """The interface that the first argument names; None after printing why there is none."""
        index = self._number(arguments, 0, "expected id")
        if index is None or not in_range(index):
            return None
        c = self.connections.get(index)
        if c is None:
            info(f"no connection at index {index}")
        return c

    def _in_order(self) -> list[MemifConnection]:
        return [self.connections[index] for index in sorted(self.connections)]


def in_range(index: int) -> bool:
    """Return whether there is a slot of this number; print a message if not."""
    if 0 <= index < MAX_CONNS:
        return True
    info(_UNDER if index < 0 else _OVER)
    return False


def parse_ip(text: str) -> bytes | None:
    """Return four bytes from "192.168.1.2"; None for anything else."""
    parts = text.split(".")
    if len(parts) != 4 or not all(re.fullmatch("[0-9]{1,3}", part, re.ASCII) and int(part) < 256 for part in parts):
        return None
    return bytes(map(int, parts))


def _printable(text: str) -> str:
    """Text of the user, without control characters."""
    return text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
