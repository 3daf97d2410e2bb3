"""``memif bridge``: join two packet ports, each written as ``kind:name,option=value,...``."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, cast

import click

from memif.address import DEFAULT_SOCKET
from memif.errors import MemifError, MemifValueError
from memif.interface import Options
from memif.profiles import link_options
from memif.tools.files import LINKTYPES, file_options, make_filter, summarise_files, take_files
from memif.tools.linking import Waiting
from memif.tools.options import duration_option, examples, interval_option, json_option, read_secret
from memif.tools.screen import say
from memif.tools.terminal import Status, Stop, print_json
from memif.tools.values import seconds, si
from memif.tools.verb import Verb

if TYPE_CHECKING:
    from memif.bridge import Bridge, DevicePort, MemifPort, Packets
    from memif.capture import PcapngWriter
    from memif.packet import Filter

_MEMIF: Final = (
    "id",
    "role",
    "mode",
    "secret",
    "secret-file",
    "name",
    "rx-queues",
    "tx-queues",
    "ring-size",
    "buffer-size",
    "rx-mode",
)
_DEVICE: Final = ("address", "mtu", "netns")
_KINDS: Final = {"memif": _MEMIF, "profile": _MEMIF, "tap": _DEVICE, "tun": _DEVICE, "packet": ()}
_NUMBERS: Final = ("id", "rx-queues", "tx-queues", "ring-size", "buffer-size", "mtu")


@click.command(
    "bridge",
    cls=Verb,
    epilog=examples(
        "bridge memif:/run/vpp/memif.sock tap:tap0,address=192.0.2.1/24",
        "bridge memif:/tmp/a.sock,role=master memif:/tmp/b.sock,id=3",
        "bridge -w x.pcapng memif:/tmp/a.sock packet:eth1 'tcp port 80'",
        "bridge memif:/tmp/a.sock,mode=ip tun:tun0,address=10.0.0.1/24",
    ),
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.argument("filter_words", nargs=-1, metavar="[FILTER]...")
@file_options
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="MS",
    help="Milliseconds to wait for room in a full ring before packets are dropped.",
)
@duration_option
@interval_option
@json_option
def command(
    first: str,
    second: str,
    filter_words: tuple[str, ...],
    patience: float,
    duration: float | None,
    interval: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Pass packets between A and B, both ways, until Ctrl-C. Each is one of

    \b
    memif:SOCKET[,OPTION=VALUE]...  id, role, mode, secret, secret-file, name,
                                    rx-queues, tx-queues, ring-size,
                                    buffer-size, rx-mode
    profile:NAME[,OPTION=VALUE]...  a memif by the name of its profile, from
                                    the file ~/.config/memif.toml
    tap:NAME[,OPTION=VALUE]...      a TAP device, made here: address, mtu, netns
    tun:NAME[,OPTION=VALUE]...      the same without Ethernet, for mode=ip
    packet:IFNAME                   an existing network interface

    Each end has its own secret: MEMIF_SECRET is not used, so that neither peer is told what is meant for the other.

    Between two memifs packets are copied once, from ring to ring, by the burst. Links may come and go meanwhile, and
    interfaces of the kernel be set down and up again: what comes for them then is counted as dropped. It ends when one
    is deleted.

    FILTER is an expression as tcpdump takes it (needs libpcap): -w writes the packets that match. All are passed on.
    """
    files = take_files(options)
    ends = parse_endpoint(first, "A"), parse_endpoint(second, "B")
    if ends[0].linktype != ends[1].linktype:
        raise click.UsageError("one side has Ethernet frames and the other IP packets: see mode=ip and tun:")
    if filter_words and files.path is None:
        raise click.UsageError("FILTER chooses what -w writes: give -w a file name")
    keep = make_filter(filter_words, "ethernet" if ends[0].linktype == LINKTYPES["ethernet"] else "ip")
    error, stop = None, Stop(duration)
    with ExitStack() as stack:
        writer = stack.enter_context(files.open("memif bridge", stop))
        joined = stack.enter_context(open_bridge(ends, patience / 1000))
        if writer is not None:
            joined.watch = recorder(writer, ends, keep)
        stack.enter_context(stop)
        status = stack.enter_context(Status("bridge", 0 if as_json else interval))
        say(f"bridging A: {ends[0]} and B: {ends[1]}")
        try:
            pump(joined, stop, status, writer, ends)
        except MemifError as problem:
            error = problem
    result = {
        "seconds": stop.elapsed,
        "files": files.names(writer),
        "a_to_b": asdict(joined.counters[0]),
        "b_to_a": asdict(joined.counters[1]),
    }
    report(result, as_json, to_stderr=files.path == "-")
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a bridge, not opened yet.

    Attributes:
        text: What was written, without the options.
        kind: "memif", "tap", "tun" or "packet".
        name: Of the socket, device or network interface.
        options: By name, checked; not shown, as there may be a secret among them.
    """

    text: str
    kind: str
    name: str
    options: dict[str, str | int | bytes] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        number = f" id {self.options.get('id', 0)!s}" if self.kind == "memif" else ""
        return self.text + number

    @property
    def linktype(self) -> int:
        """Link type in captures: 1 Ethernet, 101 IP."""
        return 101 if self.kind == "tun" or self.options.get("mode") == "ip" else 1

    def open(self, patience: float) -> "MemifPort | DevicePort":
        """Open the port, which waits `patience` seconds for room in a full ring; usage error for an invalid option."""
        try:
            if self.kind == "memif":
                return self._open_memif(patience)
            return self._open_packet() if self.kind == "packet" else self._open_tap()
        except MemifValueError as error:
            raise click.BadParameter(error.detail, param_hint=self.text) from error

    def _open_memif(self, patience: float) -> "MemifPort":
        from memif.bridge import MemifPort
        from memif.socket import open_interface

        options: dict[str, Any] = {"name": "bridge"} | {
            key.replace("-", "_"): value for key, value in self.options.items()
        }
        return MemifPort(open_interface(self.name, cast(Options, options)), patience)

    def _open_tap(self) -> "DevicePort":
        from memif.bridge import DevicePort
        from memif.tap import Tap

        netns = self.options.get("netns")
        tap = Tap(self.name, mode="tun" if self.kind == "tun" else "tap", netns=None if netns is None else str(netns))
        try:
            mtu, address = self.options.get("mtu"), self.options.get("address")
            tap.set(address=None if address is None else str(address), mtu=None if mtu is None else int(mtu), up=True)
        except BaseException:
            tap.close()
            raise
        return DevicePort(tap, tap.close)

    def _open_packet(self) -> "DevicePort":
        from memif.bridge import DevicePort
        from memif.packet_socket import PacketSocket

        device = PacketSocket(self.name)
        return DevicePort(device, device.close)


def parse_endpoint(text: str, where: str) -> Endpoint:
    """Read ``kind:name,option=value,...``; usage error for argument `where` if it is wrong."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in _KINDS:
        raise click.BadParameter(
            f"{text!r} begins with none of memif:, profile:, tap:, tun:, packet:", param_hint=where
        )
    name, *pairs = rest.split(",")
    if not name:
        raise click.BadParameter(f"{text!r} has no name after {kind}:", param_hint=where)
    options: dict[str, str | int | bytes] = {}
    end = kind, name
    if kind == "profile":
        options = _of_profile(name, where)
        end = "memif", str(options.pop("socket", DEFAULT_SOCKET))
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.replace("_", "-")
        if key not in _KINDS[kind] or not equals:
            allowed = ", ".join(_KINDS[kind]) or "none"
            raise click.BadParameter(f"{pair!r} is no option of {kind}: ({allowed})", param_hint=where)
        if key in _NUMBERS and not value.isdigit():
            raise click.BadParameter(f"{key}: {value!r} is not a number", param_hint=where)
        if key == "secret-file":
            options["secret"] = read_secret(value)
        else:
            options[key] = int(value) if key in _NUMBERS else value
    return Endpoint(f"{kind}:{name}", *end, options)


def _of_profile(name: str, where: str) -> dict[str, str | int | bytes]:
    """The options of a profile, with the socket."""
    try:
        found = link_options(name, environment=False)
    except MemifValueError as error:
        raise click.BadParameter(error.detail.removeprefix("argument "), param_hint=where) from error
    return {key.replace("_", "-"): value for key, value in found.items()}


def open_bridge(ends: tuple[Endpoint, Endpoint], patience: float) -> "Bridge":
    """Open both ports; none stays open if one fails."""
    from memif.bridge import Bridge

    first = ends[0].open(patience)
    try:
        return Bridge(first, ends[1].open(patience))
    except BaseException:
        first.close()
        raise


def recorder(
    writer: "PcapngWriter", ends: tuple[Endpoint, Endpoint], keep: "Filter | None"
) -> Callable[[int, "Packets"], None]:
    """Return a function that writes packets to a capture, which gets an interface for each port."""
    numbers = [writer.add_interface(end.text, linktype=end.linktype) for end in ends]

    def watch(source: int, packets: "Packets") -> None:
        if keep is not None and not (chosen := keep.match(packets)).all():
            some: list[Any] = list(compress(packets, chosen.tolist()))
            if some:
                writer.write_packets(some, None, numbers[source], "in")
        else:
            writer.write_packets(packets, None, numbers[source], "in")

    return watch


def pump(
    joined: "Bridge",
    stop: Stop,
    status: Status,
    writer: "PcapngWriter | None",
    ends: tuple[Endpoint, Endpoint],
) -> None:
    """Move packets until `stop`; say when an end goes down or comes up."""
    from memif.bridge import MemifPort

    waits = [
        Waiting(port.interface, where)
        for where, port in zip("AB", joined.ports, strict=True)
        if isinstance(port, MemifPort)
    ]
    there, back = joined.counters
    down = [False, False]
    while not stop:
        for waiting in waits:
            waiting.tick()
        if not joined.step(stop.left()) and writer is not None:
            writer.check_reader()
        dropped = there.dropped + back.dropped
        status.tick(there.packets + back.packets, there.bytes + back.bytes, f"{dropped} dropped" if dropped else "")
        for i, port in enumerate(joined.ports):
            if port.down != down[i]:
                down[i] = port.down
                say(f"{ends[i]} is {'down, packets for it are dropped' if port.down else 'up again'}")


def report(result: dict[str, Any], as_json: bool, *, to_stderr: bool) -> None:
    """Print the result."""
    if as_json:
        print_json(result, err=to_stderr)
        return
    for name, key in (("A to B", "a_to_b"), ("B to A", "b_to_a")):
        c = result[key]
        dropped = f", {c['dropped']} dropped" if c["dropped"] else ""
        click.echo(f"{name}: {c['packets']} packets, {si(c['bytes'], 'B')}{dropped}", err=to_stderr)
    click.echo(f"  in {seconds(result['seconds'])}", err=to_stderr)
    summarise_files(result["files"], to_stderr=to_stderr)
