"""Every byte that `memif.vpp` sends, compared with what PyPI's vpp-papi sends for the same call."""

import contextlib
import ipaddress
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memif.config import InterfaceConfig
from memif.vpp import Vpp, VppError, VppInterface
from patience import within
from vpp import papi
from vpp.papi import definitions
from vpp.server import ApiServer
from vpp.standin import StandIn

FACE = VppInterface("memif1/7", 1, 1, 7, False, True, False)
HELLO = struct.pack(">H", 15)
MAC = bytes.fromhex("02fe01020304")

Call = Callable[[Vpp], object]


def memif(**options: Any) -> dict[str, Any]:
    """What vpp-papi takes for a memif."""
    return {
        "role": 0, "mode": 0, "rx_queues": 1, "tx_queues": 1, "id": 7, "socket_id": 1, "ring_size": 1024,
        "buffer_size": 2048, "no_zero_copy": False, "hw_addr": "00" * 6, "secret": "",
    } | options  # fmt: skip


def ours(mac: bytes = bytes(6), zero_copy: bool = True, **options: Any) -> Call:
    config = InterfaceConfig.make(**{"role": "master", "id": 7} | options)
    return lambda vpp: vpp.create_memif(1, config, mac, zero_copy=zero_copy)


SLAVE = {"role": "slave", "rx_queues": 2, "tx_queues": 3, "ring_size": 64, "buffer_size": 9216, "secret": "s3cret"}
SLAVE_THERE = {**SLAVE, "role": 1, "no_zero_copy": True, "hw_addr": MAC.hex()}


def address(text: str) -> Call:
    return lambda vpp: vpp.add_address(FACE, ipaddress.ip_interface(text))


def prefix(text: str) -> dict[str, Any]:
    return {"sw_if_index": 1, "is_add": True, "del_all": False, "prefix": text}


#: Our call, the form of the table, and vpp-papi's call.
CASES: dict[str, tuple[Call, str, str, dict[str, Any]]] = {
    "socket": (
        lambda vpp: vpp.add_socket(1, "/run/vpp/a.sock"),
        "new",
        "memif_socket_filename_add_del_v2",
        {"is_add": True, "socket_id": 0xFFFFFFFF, "socket_filename": "/run/vpp/a.sock"},
    ),
    "socket of 21.06": (
        lambda vpp: vpp.add_socket(1, "/run/vpp/a.sock"),
        "21",
        "memif_socket_filename_add_del",
        {"is_add": True, "socket_id": 1, "socket_filename": "/run/vpp/a.sock"},
    ),
    "no socket": (
        lambda vpp: vpp.remove_socket(1),
        "new",
        "memif_socket_filename_add_del_v2",
        {"is_add": False, "socket_id": 1, "socket_filename": ""},
    ),
    "no socket in 21.06": (
        lambda vpp: vpp.remove_socket(1),
        "21",
        "memif_socket_filename_add_del",
        {"is_add": False, "socket_id": 1, "socket_filename": ""},
    ),
    "master": (ours(), "new", "memif_create_v2", memif(use_dma=False)),
    "master of 21.06": (ours(), "21", "memif_create", memif()),
    "slave": (ours(MAC, False, **SLAVE), "new", "memif_create_v2", memif(use_dma=False, **SLAVE_THERE)),
    "slave of 21.06": (ours(MAC, False, **SLAVE), "21", "memif_create", memif(**SLAVE_THERE)),
    "ip mode": (ours(mode="ip"), "new", "memif_create_v2", memif(mode=1, use_dma=False)),
    "delete": (lambda vpp: vpp.delete_memif(FACE), "new", "memif_delete", {"sw_if_index": 1}),
    "up": (lambda vpp: vpp.set_admin(FACE, up=True), "new", "sw_interface_set_flags", {"sw_if_index": 1, "flags": 1}),
    "down": (
        lambda vpp: vpp.set_admin(FACE, up=False),
        "new",
        "sw_interface_set_flags",
        {"sw_if_index": 1, "flags": 0},
    ),
    "address": (address("192.168.1.1/24"), "new", "sw_interface_add_del_address", prefix("192.168.1.1/24")),
    "IPv6 address": (address("2001:db8::1/64"), "new", "sw_interface_add_del_address", prefix("2001:db8::1/64")),
    "mtu": (
        lambda vpp: vpp.set_mtu(FACE, 9000),
        "new",
        "sw_interface_set_mtu",
        {"sw_if_index": 1, "mtu": [9000, 0, 0, 0]},
    ),
    "version": (Vpp.show_version, "new", "show_version", {}),
    "command": (lambda vpp: vpp.cli("show errors"), "new", "cli_inband", {"cmd": "show errors"}),
    "dump": (Vpp.interfaces, "new", "memif_dump", {}),
}


def without_context(message: bytes) -> bytes:
    """Contexts are any numbers."""
    return message[:2] + message[6:] if message[:2] == HELLO else message[:6] + message[10:]


def number_of(server: ApiServer, name: str) -> bytes:
    return next(struct.pack(">H", number) for full, number in server.table.items() if full.rpartition("_")[0] == name)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What vpp-papi sends for each case, and first of all."""
    folder = tmp_path_factory.mktemp("papi")
    (folder / "memif.api.json").write_text(json.dumps(definitions()))
    calls = [json.dumps([name, arguments]) for _, _, name, arguments in CASES.values()]
    with ApiServer(str(folder / "api.sock"), StandIn(str(folder))) as server:
        subprocess.run(
            [sys.executable, papi.__file__, str(folder / "api.sock"), str(folder / "memif.api.json")],
            input="\n".join(calls),
            text=True,
            check=True,
            timeout=within(50),
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
    unasked = number_of(server, "control_ping"), number_of(server, "sockclnt_delete")
    sent = [without_context(message) for message in server.received if message[:2] not in unasked]
    return dict(zip(["hello", *CASES], sent, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_same_bytes_as_vpp_papi(name: str, theirs: dict[str, bytes], socket_path: str) -> None:
    call, form, _, _ = CASES[name]
    with ApiServer(socket_path, StandIn(str(Path(socket_path).parent)), form) as server:
        with Vpp(socket_path) as connection:
            server.received.clear()
            with contextlib.suppress(VppError):  # there is no such interface; the bytes count here
                call(connection)
        sent = [without_context(message) for message in server.received]
        version = number_of(server, "show_version")
    number = theirs[name][:2] if form == "new" else sent[0][:2]  # each VPP has its own numbers
    assert sent[0] == number + theirs[name][2:]
    # A dump has no reply: vpp-papi pings after it, we ask for the version.
    assert [message[:2] for message in sent[1:]] == ([version] if name == "dump" else [])


def test_hello_is_vpp_papis(theirs: dict[str, bytes], socket_path: str) -> None:
    with ApiServer(socket_path, StandIn(str(Path(socket_path).parent))) as server:
        Vpp(socket_path).close()
        assert without_context(server.received[0]) == theirs["hello"]
