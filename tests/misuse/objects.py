"""The public objects: how each is come by in a `World`, and which classes that covers."""

import enum
import importlib
import io
import os
import pkgutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np

import memif
from memif import (
    aio,
    bridge,
    capture,
    libmemif as c,
    metrics,
    packet,
    packet_socket,
    ring,
    scapy,
    sniff,
    tap,
    testing,
    vpp,
)
from memif.protocol import wire
from misuse.calls import EXPECTED, Judge, fitting, junk
from misuse.world import World
from vpp.server import ApiServer
from vpp.standin import StandIn

#: Where users find objects. Everything public in there has to be in the table below.
HOMES = (memif, aio, bridge, capture, c, metrics, packet, packet_socket, ring, scapy, sniff, tap, testing, vpp)
#: Parts of the shells that are public only to other parts of the package.
_LOOSE = (AttributeError, KeyError, struct.error)
_INSIDE = frozenset(
    [
        "initialise",
        "attach",
        "owner",
        "log",
        "config",
        "callable",
        "deadline",
        "main",
        "live",
    ]
)


@dataclass
class Entry:
    """One object. `make` gets a world; `covers` are the classes that it stands for."""

    make: Callable[[World], Any]
    covers: tuple[type, ...] = ()
    side: str = "slave"
    linked: bool = True
    looped: bool = False
    root: bool = False
    skip: frozenset[str] = _INSIDE
    more: Callable[[Judge, Any, World, str], None] | None = None
    extra: tuple[type[BaseException], ...] = ()
    canary: bool = False
    by_hand: bool = True
    threads: bool = True

    def world(self) -> World:
        """A fresh world for it."""
        world = World(self.side, linked=self.linked)
        if self.looped:
            import asyncio

            world.loop = asyncio.new_event_loop()
        return world


ENTRIES: dict[str, Entry] = {}


def entry(name: str, *covers: type, **options: Any) -> Callable[[Callable[[World], Any]], Callable[[World], Any]]:
    """Put what the function makes into the table."""

    def put(make: Callable[[World], Any]) -> Callable[[World], Any]:
        ENTRIES[name] = Entry(make, covers, **options)
        return make

    return put


def _extension_types() -> dict[str, type]:
    """Every class of the compiled part, private ones too: `type(x)` reaches them."""
    for home in (ring, c):
        for module in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
            importlib.import_module(module.name)
    found: dict[str, type] = {}
    for kind in _below(object):
        home = kind.__module__
        if (
            isinstance(home, str)
            and home.startswith(("memif.ring.", "memif.libmemif._"))
            and "__pyx" not in kind.__name__
        ):
            found[kind.__name__] = kind
    return found


def _below(kind: type) -> Iterator[type]:
    for each in type.__subclasses__(kind):
        yield each
        yield from _below(each)


def public_classes() -> set[type]:
    """Classes with state and behaviour that users can get at: no errors, enumerations, plain values, protocols."""
    classes = set(_extension_types().values())
    for home in HOMES:
        for name in getattr(home, "__all__", None) or [n for n in dir(home) if not n.startswith("_")]:
            value = getattr(home, name)
            here = home.__name__ if not hasattr(home, "__all__") else "memif"
            if isinstance(value, type) and value.__module__.startswith(here):
                classes.add(value)
    return {kind for kind in classes if not _value(kind)}


def _value(kind: type) -> bool:
    return (
        issubclass(kind, (BaseException, enum.Enum, tuple, int))
        or (is_dataclass(kind) and kind not in (testing.RawRing,))
        or bool(getattr(kind, "_is_protocol", False))
    )


def covered() -> set[type]:
    """Classes that the table has."""
    return {kind for each in ENTRIES.values() for kind in each.covers}


# -- the link itself

for _side in ("slave", "master"):
    entry(f"socket of a {_side}", memif.Socket, side=_side)(lambda w: w.own.socket)
    entry(f"interface, {_side}", memif.Interface, side=_side)(lambda w: w.own)
    entry(f"receive queue, {_side}", memif.RxQueue, side=_side, canary=True)(lambda w: w.own.rx[0])
    entry(f"transmit queue, {_side}", memif.TxQueue, side=_side, canary=True)(lambda w: w.own.tx[0])
    entry(f"received burst, {_side}", memif.Burst, side=_side, canary=True)(lambda w: w.burst())
    entry(f"allocated burst, {_side}", memif.Burst, side=_side, canary=True)(lambda w: w.own.tx[0].alloc(3, 60))
    entry(f"receive ring, {_side}", ring.RxRing, ring.Ring, side=_side, canary=True)(lambda w: w.own.rx[0].ring)
    entry(f"transmit ring, {_side}", ring.TxRing, ring.Ring, side=_side, canary=True)(lambda w: w.own.tx[0].ring)

_types = _extension_types


@entry("chained burst", memif.Burst, canary=True)
def _(w: World) -> Any:
    w.kept += [w.own.rx[0].recv(8, timeout=1.0)]
    return w.own.rx[0].recv(3, timeout=1.0)


@entry("packets of a burst", canary=True)
def _(w: World) -> Any:
    w.kept.append(w.burst())
    return iter(w.kept[-1])


ENTRIES["packets of a burst"].covers = (_types()["_Packets"],)
entry("statistics of a queue", ring.Stats)(lambda w: w.own.rx[0].counters)
entry("region", ring.Region)(lambda w: w.own.rx[0].ring.regions[0])
entry("region around memory", ring.Region)(lambda w: ring.Region.wrap(bytearray(4096)))
entry("details")(lambda w: w.own.details())
entry("peer")(lambda w: w.own.peer)


# -- views

_VIEW = {
    "tobytes": lambda v: v.tobytes(),
    "write": lambda v: v.__setitem__(slice(None), bytes(len(v))),
    "slice": lambda v: bytes(v[1:]),
    "cast": lambda v: v.cast("b"),
    "hex": lambda v: v.hex(),
    "of numpy": lambda v: np.frombuffer(v, "u1").sum(),
    "toreadonly": lambda v: v.toreadonly(),
    "bytes": bytes,
    "contains": lambda v: 0 in v,
}
_ARRAY = {
    "sum": lambda a: a.sum(),
    "base": lambda a: a.base,
    "write": lambda a: a.__setitem__(0, 1),
    "write again": lambda a: a.setflags(write=True),
    "resize": lambda a: a.resize(1 << 20),
    "data": lambda a: bytes(a.data),
    "write to data": lambda a: a.data.__setitem__(0, 1),
    "write to base": lambda a: a.base.__setitem__(0, 0) if a.base is not None and not a.flags.writeable else None,
    "base writeable": lambda a: setattr(a.base.flags, "writeable", True) if not a.flags.writeable else None,
    "shape": lambda a: setattr(a, "shape", (1 << 20,)),
    "view": lambda a: a.view("u1").sum(),
    "tobytes": lambda a: a.tobytes(),
    "interface": lambda a: a.__array_interface__,
    "sort": lambda a: a.copy().sort(),
    "fill": lambda a: a.fill(60),
}


def _looks(table: dict[str, Callable[[Any], object]]) -> Callable[[Judge, Any, World, str], None]:
    def more(judge: Judge, thing: Any, world: World, label: str) -> None:
        for name, call in table.items():
            judge.call(f"{name} of {label}", lambda call=call: call(thing), world)

    return more


# Its next waits for packets: that is tried with the queue itself.
entry("bursts of a queue", _types()["_Bursts"], skip=frozenset({"*"}), more=_looks({"repr": repr, "iter": iter}))(
    lambda w: iter(w.own.rx[0])
)


def _view(name: str, get: Callable[[World], Any], table: dict[str, Any]) -> None:
    entry(name, by_hand=False, skip=frozenset({"*"}), more=_looks(table))(get)


def _of(w: World, get: Callable[[memif.Burst], Any]) -> Any:
    w.kept.append(w.burst())
    return get(w.kept[-1])


_view("view of a received packet", lambda w: _of(w, lambda b: b[0]), _VIEW)
_view("view of a fragment", lambda w: _of(w, lambda b: b.fragments(1)[0]), _VIEW)
_view("view of an allocated packet", lambda w: (w.kept.append(w.own.tx[0].alloc(2, 60)), w.kept[-1][0])[1], _VIEW)
_view("view of a region", lambda w: memoryview(w.own.rx[0].ring.regions[0])[:0], {"tobytes": bytes})
_view("numpy view of a packet", lambda w: _of(w, lambda b: np.frombuffer(b[0], "u1")), _ARRAY)
for _column in ("lengths", "offsets", "pieces", "regions", "flags"):
    _view(f"array of {_column}", lambda w, name=_column: _of(w, lambda b: getattr(b, name)), _ARRAY)
_view("gathered matrix", lambda w: _of(w, lambda b: b.gather(64)), _ARRAY)
_view(
    "memory of a burst",
    lambda w: _of(w, lambda b: b.memory[0]),
    {"sum": lambda a: a[:64].sum(), "base": lambda a: a.base, "resize": lambda a: a.resize(1 << 30)},
)


@entry("view in debug mode", by_hand=False, skip=frozenset({"*"}), more=_looks(_VIEW))
def _(w: World) -> Any:
    from memif import debug

    debug.enable()
    try:
        w.kept.append(w.burst())
        return w.kept[-1][0]
    finally:
        debug.enable(False)


# -- asyncio


def _aio(w: World) -> aio.Interface:
    """An asyncio interface beside the world, linked with a peer of its own."""
    path = w.path + "-aio"

    async def make() -> aio.Interface:
        server = aio.Socket(path)
        client = aio.Socket(path)
        m, s = server.interface(role="master"), client.interface(reconnect=None)
        s.connect()
        await m.wait_up(5.0)
        await s.wait_up(5.0)
        assert await m.tx[0].send_all([b"x" * 60] * 20, timeout=1.0) == 20
        w.kept += [server.close, client.close, m, s]
        w.__dict__["aio_master"] = m
        return s

    return w.run(make())


entry("aio socket", aio.Socket, looped=True)(lambda w: _aio(w).socket)
entry("aio interface", aio.Interface, looped=True)(_aio)
entry("aio receive queue", aio.RxQueue, looped=True)(lambda w: _aio(w).rx[0])
entry("aio transmit queue", aio.TxQueue, looped=True)(lambda w: _aio(w).tx[0])
entry("aio iterator", looped=True)(lambda w: aiter(_aio(w).rx[0]))
entry("aio opening", aio.Opening, looped=True, skip=frozenset({"__aexit__"}))(
    lambda w: aio.connect(w.path + "-nobody", timeout=0.01)
)


# -- the C library's names


def _c_pair(w: World, side: str) -> c.memif_conn_handle_t:
    path = w.path + "-c"
    sock = c.memif_create_socket(c.memif_socket_args_t(path=path, app_name="misuse"))[1]
    assert sock is not None
    conns = []
    for master in (1, 0):
        err, conn = c.memif_create(c.memif_conn_args_t(socket=sock, is_master=master, log2_ring_size=6), _refill)
        assert err == 0, repr(err)
        conns.append(conn)
    for _ in range(200):
        if all(conn.live is not None and conn.live.up for conn in conns):
            break
        assert c.memif_poll_event(sock, 10) == 0
    for conn in conns:
        bufs = [c.memif_buffer_t() for _ in range(8)]
        assert c.memif_buffer_alloc(conn, 0, bufs, 8)[1] == 8
        for buf in bufs:
            buf.len = 60
        assert c.memif_tx_burst(conn, 0, bufs, 8)[1] == 8
    w.kept += [sock, conns[0], conns[1]]
    w.kept.append(lambda: ([c.memif_delete(conn) for conn in conns], c.memif_delete_socket(sock)))
    return conns[side == "slave"]


def _refill(conn: Any, ctx: Any) -> int:
    c.memif_refill_queue(conn, 0)
    return 0


def _c_buffer(w: World, conn: Any) -> c.memif_buffer_t:
    bufs = [c.memif_buffer_t() for _ in range(4)]
    assert c.memif_rx_burst(conn, 0, bufs, 4)[1] == 4
    w.kept += bufs[1:]
    return bufs[0]


def _c_array(w: World, conn: Any) -> c.memif_buffers:
    bufs = c.memif_buffers(6)
    assert c.memif_rx_burst(conn, 0, bufs, 4)[1] == 4
    w.kept += [bufs[1:], bufs[2]]
    return bufs


#: Functions that would take over descriptors of the test, wait, or change the process for good.
_APART = {
    "memif_poll_event",
    "memif_per_thread_poll_event",
    "memif_set_listener_fd",
    "memif_control_fd_handler",
    "memif_per_thread_control_fd_handler",
    "memif_create",
    "memif_create_socket",
    "memif_per_thread_create_socket",
    "memif_init",
    "memif_per_thread_init",
    "memif_get_version",
    "memif_get_version_str",
    "memif_strerror",
    "memif_register_external_region",
    "memif_per_thread_register_external_region",
}
_FUNCTIONS = {
    name: getattr(c, name)
    for name in c.__all__
    if name.startswith("memif_") and callable(getattr(c, name)) and not isinstance(getattr(c, name), type)
}
_ENDING = ("memif_delete", "memif_delete_socket", "memif_cleanup", "memif_per_thread_cleanup")


def _c_calls(judge: Judge, thing: Any, world: World, label: str) -> None:
    """Every function of the C library, with `thing` in every place. They return codes and never raise."""
    import inspect

    mine = [each for each in world.kept if type(each).__module__.startswith("memif")]
    for name in sorted(_FUNCTIONS, key=lambda name: (name in _ENDING, name)):
        if name in _APART or name[-2:] == "_t":
            continue
        function = _FUNCTIONS[name]
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        for vary in range(len(parameters) + 1):
            for value in [thing] if vary == len(parameters) else [thing, *_c_values(parameters[vary].name), *junk()]:
                args = [_c_first(p.name, thing, mine) for p in parameters]
                if vary < len(parameters):
                    args[vary] = value
                _coded(judge, f"{name}{_words(args)}", lambda args=args, function=function: function(*args))
    for timeout in (0, 1, "x", 0.5, -2):
        _coded(judge, f"memif_poll_event({label}, {timeout!r})", lambda t=timeout: c.memif_poll_event(thing, t))


def _words(args: list[Any]) -> str:
    from misuse.calls import short

    return f"({', '.join(map(short, args))})"


def _coded(judge: Judge, label: str, work: Callable[[], object]) -> None:
    def call() -> None:
        try:
            work()
        except EXPECTED as error:
            raise AssertionError(f"a function of the C library raised {type(error).__name__}: {error}") from error

    judge.call(label, call)


def _c_first(name: str, thing: Any, mine: list[Any]) -> Any:
    def of(kind: type, default: Any) -> Any:
        return next((each for each in (thing, *mine) if isinstance(each, kind)), default)

    buf = of(c.memif_buffer_t, None) or c.memif_buffer_t()
    choices: dict[str, Callable[[], Any]] = {
        "conn": lambda: of(c.memif_conn_handle_t, None),
        "sock": lambda: of(c.memif_socket_handle_t, None),
        "qid": lambda: 0,
        "bufs": lambda: [buf, *(c.memif_buffer_t() for _ in range(3))],
        "buf": lambda: buf,
        "buf_a": lambda: buf,
        "buf_b": lambda: next((each for each in mine[::-1] if isinstance(each, c.memif_buffer_t)), buf),
        "count": lambda: 2,
        "size": lambda: 60,
        "headroom": lambda: 0,
        "rx_mode": lambda: 0,
        "timer": lambda: 0.5,
    }
    return choices[name]() if name in choices else 0


def _c_values(name: str) -> list[Any]:
    return {
        "bufs": [c.memif_buffers(4), c.memif_buffers(0), [c.memif_buffer_t()] * 4, (c.memif_buffer_t(),), [5], {}],
        "size": [9000, 65536],
        "count": [0, 65535, 65536, 1 << 32],
        "headroom": [64, 5000, 1 << 31],
        "rx_mode": [1, 2],
        "timer": [c.itimerspec(), 1e300],
        "qid": [1, 254],
    }.get(name, [])


for _side in ("slave", "master"):
    entry(f"libmemif connection, {_side}", c.memif_conn_handle_t, side=_side, more=_c_calls)(
        lambda w: _c_pair(w, w.side)
    )
    entry(f"libmemif buffer, {_side}", c.memif_buffer_t, side=_side, more=_c_calls)(
        lambda w: _c_buffer(w, _c_pair(w, w.side))
    )
    entry(f"libmemif array of buffers, {_side}", c.memif_buffers, side=_side, more=_c_calls)(
        lambda w: _c_array(w, _c_pair(w, w.side))
    )
    entry(f"libmemif view of a buffer, {_side}", by_hand=False, skip=frozenset({"*"}), more=_looks(_VIEW), side=_side)(
        lambda w: _c_buffer(w, _c_pair(w, w.side)).data
    )
entry("libmemif socket", c.memif_socket_handle_t, more=_c_calls)(lambda w: (_c_pair(w, w.side), w.kept[0])[1])
entry("libmemif details")(lambda w: c.memif_get_details(_c_pair(w, w.side))[1])
entry("libmemif arguments", skip=frozenset())(lambda w: c.memif_conn_args_t())
entry("libmemif empty buffer", c.memif_buffer_t, more=_c_calls)(lambda w: c.memif_buffer_t())


@entry("libmemif thread", c.memif_per_thread_main_handle_t, more=_c_calls)
def _(w: World) -> Any:
    err, main = c.memif_per_thread_init(None)
    assert err == 0
    w.kept.append(lambda: c.memif_per_thread_cleanup(main))
    return main


_C = _extension_types()
entry("libmemif receive ring", _C["RawRx"], _C["Raw"])(lambda w: _c_pair(w, "slave").rx[0])
entry("libmemif transmit ring", _C["RawTx"], _C["Raw"])(lambda w: _c_pair(w, "slave").tx[0])
entry("libmemif receive queue", _C["ManualRxQueue"], ring.Queue)(lambda w: _c_pair(w, "slave").interface.rx[0])


# -- internals of the compiled part, which nobody hands out: only by hand


def _by_hand_only(name: str, *names: str) -> None:
    entry(name, *(_C[each] for each in names))(lambda w: None)


_by_hand_only("leases", "Lease", "Window")
_by_hand_only("numpy's interface", "Numpy")
_by_hand_only("stores", "Store", "Column", "Pool")


# -- captures, devices, tools


@entry("capture writer", capture.PcapngWriter, extra=_LOOSE, threads=False)
def _(w: World) -> Any:
    writer = capture.PcapngWriter(w.temporary("c.pcapng"))
    writer.add_interface("a")
    w.kept.append(writer.close)
    return writer


@entry("rotating writer", capture.RotatingWriter, extra=_LOOSE, threads=False)
def _(w: World) -> Any:
    writer = capture.RotatingWriter(w.temporary("r.pcapng"), max_bytes=2000)
    writer.add_interface("a")
    w.kept.append(writer.close)
    return writer


def _captured() -> bytes:
    file = io.BytesIO()
    with capture.PcapngWriter(file) as writer:
        writer.add_interface("a")
        for _ in range(8):
            writer.write_packet(b"x" * 60)
    return file.getvalue()


@entry("capture reader", capture.CaptureReader, extra=_LOOSE, threads=False)
def _(w: World) -> Any:
    path = w.temporary("in.pcapng")
    with open(path, "wb") as file:
        file.write(_captured())
    reader = capture.CaptureReader(path)
    w.kept.append(reader.close)
    return reader


@entry("tap", tap.Tap, extra=_LOOSE, root=True)
def _(w: World) -> Any:
    device = tap.Tap()
    w.kept.append(device.close)
    return device


@entry("packet socket", packet_socket.PacketSocket, extra=_LOOSE, root=True)
def _(w: World) -> Any:
    device = packet_socket.PacketSocket("lo", promiscuous=False)
    w.kept.append(device.close)
    return device


@entry("bridge", bridge.Bridge, bridge.MemifPort, bridge.DevicePort, extra=_LOOSE)
def _(w: World) -> Any:
    joined = bridge.Bridge(bridge.MemifPort(w.m), bridge.MemifPort(w.s))
    w.kept.append(joined.close)
    return joined


entry("port of a bridge", bridge.MemifPort, extra=_LOOSE)(lambda w: bridge.MemifPort(w.own))


@entry("scapy socket", scapy.MemifSocket, extra=_LOOSE)
def _(w: World) -> Any:
    sock = scapy.MemifSocket(w.own, timeout=0.01)
    w.kept.append(sock.close)
    return sock


entry("responder", packet.Responder, extra=_LOOSE)(lambda w: packet.Responder("192.168.1.1"))
entry("filter", packet.Filter, extra=_LOOSE)(lambda w: packet.Filter("udp port 53"))
entry("collector of metrics", metrics.MemifCollector, extra=_LOOSE)(lambda w: metrics.MemifCollector(w.m, w.s.socket))
#: What hands descriptors out, or takes them over.
_TAKING = frozenset({"allocate", "free"})
entry("memfd allocator", memif.MemfdAllocator, skip=_TAKING)(lambda w: memif.MemfdAllocator())
entry("hugepage allocator", memif.HugepageAllocator, skip=_TAKING)(lambda w: memif.HugepageAllocator())


@entry("sniffer", sniff.Sniffer, extra=_LOOSE, threads=False)
def _(w: World) -> Any:
    sniffer = sniff.Sniffer(w.path + "-sniff", w.path, realtime=False)
    w.kept.append(sniffer.close)
    return sniffer


@entry("link of a sniffer", sniff.Link, extra=_LOOSE, skip=_INSIDE | {"see"})
def _(w: World) -> Any:
    return sniff.Link(1)


@entry("tap of a ring", sniff.RingTap, extra=_LOOSE)
def _(w: World) -> Any:
    one = w.own.tx[0].ring
    memory = [np.frombuffer(memoryview(one.regions[0]).toreadonly(), np.uint8)]
    return sniff.RingTap(memory, wire.AddRing(s2m=True, index=0, region=0, offset=one.offset, log2_ring_size=6))


#: What a test plays with the tool, in an order that it knows.
_PLAYS = frozenset(
    [
        "keep",
        "make_memory",
        "link",
        "serve",
        "answer",
        "play",
        "say",
        "accept",
        "connect",
        "send",
        "recv",
        "farewell",
        "script",
        "until",
        "show",
    ]
)


@entry("hostile peer", testing.HostilePeer, extra=_LOOSE, skip=_INSIDE | _PLAYS)
def _(w: World) -> Any:
    peer = testing.HostilePeer(w.path, id=5, timeout=0.01)
    w.kept.append(peer.close)
    return peer


entry("raw ring", testing.RawRing, extra=_LOOSE)(lambda w: testing.RawRing(bytearray(4096), 0, 4))


@entry("connection to VPP", vpp.Vpp, extra=_LOOSE, threads=False)
def _(w: World) -> Any:
    folder = os.path.dirname(w.temporary("api.sock"))
    w.threaded = True
    server = ApiServer(w.temporary("api.sock"), StandIn(folder))
    w.kept.append(server.__enter__().close)
    connection = vpp.Vpp(w.temporary("api.sock"), timeout=1.0)
    w.kept.append(connection.close)
    return connection


#: Processes, which `tests/dpdk` and `tests/vpp` start.
entry("real peers", testing.Testpmd, testing.VppProcess)(lambda w: None)


@entry("context of a pair")
def _(w: World) -> Any:
    return testing.pair()


def usable() -> list[str]:
    """Names of what can be made here."""
    return [name for name, each in ENTRIES.items() if not each.root or os.geteuid() == 0]


__all__ = ["ENTRIES", "Entry", "covered", "fitting", "public_classes", "usable"]
