"""Wrong arguments of what joins a memif with others: TAP, network interfaces, bridges, Scapy, metrics."""

import os
from typing import Any

import pytest

import memif
from arguments.refusals import CALLBACK, INF, NUMBER, SECONDS, WORD, cells, refused
from memif.bridge import Bridge, DevicePort, MemifPort
from memif.metrics import MemifCollector
from memif.packet_socket import PacketSocket
from memif.scapy import MemifSocket
from memif.tap import Tap
from memif.testing import pair

NAME = (5, b"tap0", "", "x" * 16, "a\0b", ["a"])


class Device:
    """Has what a port of the kernel has."""

    name = "device"

    def fileno(self) -> int:
        return 0

    def recv(self, count: int = 256) -> list[bytes]:
        return []

    def send(self, packets: list[bytes]) -> int:
        return len(packets)


def port() -> DevicePort:
    return DevicePort(Device(), lambda: None)


def memif_port(**changed: Any) -> None:
    with pair() as (master, _):
        MemifPort(**{"interface": master, **changed})


def step(**changed: Any) -> None:
    Bridge(port(), port()).step(**changed)


TABLE = {
    "Tap": (
        lambda **a: Tap(**a).close(),
        {
            "name": (*NAME, "a b", "a/b", "a%d", "."),
            "mode": WORD,
            "netns": (5, b"x", "", "a\0b", ["a"]),
            "queues": (*NUMBER, None, 0, -1, 257, True),
        },
    ),
    "PacketSocket": (
        lambda **a: PacketSocket(**{"name": "lo", **a}).close(),
        {"name": (*NAME, None), "promiscuous": (None, 1, "yes")},
    ),
    "MemifPort": (memif_port, {"interface": (None, 5, "name"), "patience": (*SECONDS, INF, None)}),
    "DevicePort": (
        lambda **a: DevicePort(**{"device": Device(), "close": print, **a}),
        {"device": (None, 5, "tap0"), "close": (*CALLBACK, None)},
    ),
    "Bridge": (
        lambda **a: Bridge(**{"first": port(), "second": port(), **a}),
        {"first": (None, 5, Device()), "second": (None, 5, Device()), "watch": CALLBACK},
    ),
    "step": (step, {"timeout": (*SECONDS, INF, None)}),
    "MemifSocket": (
        lambda **a: MemifSocket(**{"interface": "@never", "timeout": 0, **a}),
        {"interface": (5, "", "x" * 108, object()), "timeout": (*SECONDS, INF), "ring_size": (3, "a")},
    ),
    "MemifCollector.add": (lambda **a: MemifCollector().add(**a), {"source": (None, 5, "name")}),
}


@pytest.mark.parametrize(("call", "argument", "values"), cells(TABLE))
def test_integration(call: Any, argument: str, values: Any) -> None:
    for value in values:
        with refused(argument, value):
            call(**{argument: value})


def test_collector() -> None:
    with pair() as (master, _), refused("sources[1]", "name"):
        MemifCollector(master, "name")  # type: ignore[arg-type]


def test_scapy_socket_on_an_open_interface() -> None:
    with pair() as (master, _):
        for value in (*SECONDS, INF):
            with refused("timeout", value):
                MemifSocket(master, timeout=value)


OF_DEVICE = {
    "recv": (lambda tap, **a: tap.recv(**a), {"count": (*NUMBER, None, -1), "queue": (None, "0", 1.5)}),
    "send": (
        lambda tap, **a: tap.send(**{"packets": [], **a}),
        {"packets": (None, 5, "text", b"bytes", ["text"], [None]), "queue": (None, "0", 1.5)},
    ),
    "fileno": (lambda tap, **a: tap.fileno(**a), {"queue": (None, "0", 1.5)}),
    "set": (
        lambda tap, **a: tap.set(**a),
        {
            "address": (5, b"1.2.3.4/24", "", "1.2.3/24", ["1.2.3.4/24", None], [5]),
            "mtu": (*NUMBER, 0, 67, 65536, True),
            "up": (1, "down", []),
        },
    ),
}


@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK) or os.geteuid() != 0, reason="needs root and TAP")
@pytest.mark.parametrize(("call", "argument", "values"), cells(OF_DEVICE))
def test_tap(call: Any, argument: str, values: Any) -> None:
    with Tap(mode="tun") as tap:
        for value in values:
            with refused(argument, value):
                call(tap, **{argument: value})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_packet_socket() -> None:
    with PacketSocket("lo") as socket:
        for value in (*NUMBER, None, -1):
            with refused("count", value):
                socket.recv(value)
        for value in (None, 5, "text", b"bytes", ["text"], [None]):
            with refused("frames", value):
                socket.send(value)


def test_the_errors_are_both() -> None:
    with pytest.raises(TypeError):
        MemifCollector().add(None)  # type: ignore[arg-type]
    assert issubclass(memif.MemifTypeError, memif.MemifValueError)
