"""`memif.vpp.Vpp`: both ends of a link in one call, against the stand-in's API, links and pings."""

import contextlib
import signal
import socket as sockets
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memif
from memif.icmp import answer, answer_ip
from memif.vpp import Vpp, VppError
from memif.vpp.api import _WORDS
from patience import within
from peers.testpmd import poll_until
from vpp.server import ApiServer
from vpp.standin import Refused, StandIn

MAC = bytes.fromhex("02fe00000002")
OURS = bytes((192, 168, 1, 2))


@pytest.fixture
def folder(socket_path: str) -> str:
    return str(Path(socket_path).parent)


@pytest.fixture
def server(folder: str) -> Iterator[ApiServer]:
    with ApiServer(f"{folder}/api.sock", StandIn(folder, retry=0.2)) as running:
        yield running


@pytest.fixture
def vpp(server: ApiServer, folder: str) -> Iterator[Vpp]:
    with Vpp(f"{folder}/api.sock", timeout=within(20)) as connection:
        yield connection
    assert server.vpp.faces == {}, "something is left behind in VPP"
    # The file of VPP's own socket, number 0, is VPP's affair.
    assert {path.name for path in Path(folder).iterdir()} <= {"api.sock", "memif.sock"}
    assert list(server.vpp.sockets) == [0]


@contextlib.contextmanager
def answering(iface: memif.Interface) -> Iterator[None]:
    """A thread that answers ARP and pings, as a user's program would."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            for number, queue in enumerate(iface.rx):
                with queue.recv(256, timeout=0.01) as burst:
                    frames = [bytearray(packet) for packet in burst]
                answers = [f for f in frames if (answer_ip(f) if iface.mode == "ip" else answer(f, OURS, MAC))]
                if answers:
                    iface.tx[number % len(iface.tx)].send(answers)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def received(said: str) -> int:
    return int(said.partition(" sent, ")[2].partition(" received")[0])


LINKS: dict[str, dict[str, Any]] = {
    "VPP master": {},
    "VPP slave, zero-copy": {"role": "master"},
    "VPP slave, copying": {"role": "master", "zero_copy": False, "ring_size": 8},
    "ip": {"mode": "ip"},
    "ip, VPP slave": {"mode": "ip", "role": "server"},
    "two queues": {"rx_queues": 2, "tx_queues": 2},
    "two queues, VPP slave": {"role": "master", "rx_queues": 2, "tx_queues": 2},
    "secret": {"secret": "s3cret", "id": 7},
    "secret, VPP slave": {"secret": b"s3cret", "role": "master"},
    "small rings, VPP slave": {"role": "master", "ring_size": 64},
    "several addresses": {"address": ["192.168.1.1/24", "2001:db8::1/64"], "mtu": 8000, "mac": b"\2\0\0\0\0\5"},
}


@pytest.mark.parametrize("name", LINKS)
def test_link_pings_and_leaves_nothing(name: str, vpp: Vpp, server: ApiServer) -> None:
    options = {"address": "192.168.1.1/24", "timeout": within(10)} | LINKS[name]
    with vpp.link(**options) as iface, answering(iface):
        assert iface.up
        (face,) = vpp.interfaces()
        assert (face.connected, face.admin_up, face.slave) == (True, True, iface.role == "master")
        assert iface.peer is not None
        assert iface.peer.name == face.name
        assert len(iface.rx) == options.get("rx_queues", 1)
        assert len(iface.tx) == options.get("tx_queues", 1)
        # The first request goes into the question for our MAC address.
        lost = 0 if iface.mode == "ip" else 1
        assert received(vpp.cli("ping 192.168.1.2 repeat 5")) == 5 - lost
        if options.get("ring_size", 1024) >= 64:
            assert received(vpp.cli("ping 192.168.1.2 repeat 3 size 8000")) == 3 - lost
        there = next(iter(server.vpp.faces.values()))
        if "mtu" in options:
            assert (there.mtu, there.mac, len(there.addresses)) == (8000, options["mac"], 2)


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("form", ["21", "old"])
def test_older_vpps(form: str, role: Any, folder: str) -> None:
    with ApiServer(f"{folder}/api.sock", StandIn(folder, retry=0.2), form) as server, Vpp(f"{folder}/api.sock") as vpp:
        options: dict[str, Any] = {"secret": "s3cret", "mtu": 8000, "mac": MAC, "mode": "ip", "id": 3}
        with vpp.link(role=role, address="192.168.1.1/24", timeout=within(10), **options) as iface, answering(iface):
            assert received(vpp.cli("ping 192.168.1.2 repeat 5")) == 5
            (face,) = vpp.interfaces()
            assert (face.name, face.slave, face.connected) == ("memif1/3", role == "master", True)
            assert next(iter(server.vpp.faces.values())).mtu == 8000
        with pytest.raises(VppError, match=r"VPP refused .*: create interface memif: ring size must be power of 2"):
            vpp._do("create interface memif ring-size 3 master")
        assert (server.vpp.faces, list(server.vpp.sockets)) == ({}, [0])


def test_rx_mode_is_set_when_the_link_is_up(vpp: Vpp) -> None:
    for role in ("slave", "master"):
        with vpp.link(role=role, vpp_rx_mode="interrupt", timeout=within(10)):  # type: ignore[arg-type]
            assert "(interrupt)" in vpp.cli("show interface rx-placement")


def test_created_end_stays_until_deleted(folder: str, vpp: Vpp) -> None:
    first = vpp.create(f"{folder}/own.sock", address="10.0.0.1/24")
    second = vpp.create(f"{folder}/own.sock", id=1, admin_up=False)
    assert [(face.name, face.admin_up) for face in vpp.interfaces()] == [("memif1/0", True), ("memif1/1", False)]
    with memif.connect(f"{folder}/own.sock", timeout=within(5)) as iface:
        assert iface.up
    vpp.delete(first)
    assert vpp.sockets() == {0: f"{folder}/memif.sock", 1: f"{folder}/own.sock"}
    vpp.delete(second)
    assert list(vpp.sockets()) == [0]


def test_vpps_own_socket_is_used_and_stays(folder: str, vpp: Vpp) -> None:
    with vpp.link(f"{folder}/memif.sock", id=9, timeout=within(10)):
        assert vpp.interfaces()[0].name == "memif0/9"
    face = vpp.create(id=9)
    assert face.socket_id == 0
    vpp.delete(face)


@pytest.mark.parametrize(
    "options",
    [
        {"id": 1 << 32},
        {"role": "both"},
        {"mode": "raw"},
        {"ring_size": 1000},
        {"ring_size": 32, "role": "slave"},
        {"secret": "x" * 24},
        {"mac": b"12345"},
        {"mac": "02:fe:00:00:00:01"},
        {"address": "192.168.1.300/24"},
        {"address": 7},
        {"mtu": 40},
        {"zero_copy": "no"},
        {"admin_up": 1},
        {"socket": "/tmp/a+b.sock"},
        {"socket": "/tmp/" + "x" * 120},
    ],
    ids=str,
)
def test_arguments_are_checked_before_vpp_is_asked(options: dict[str, Any], vpp: Vpp, server: ApiServer) -> None:
    server.received.clear()
    name = next(iter(options))
    with pytest.raises(memif.MemifValueError, match=f"argument {name}: "):
        vpp.create(**options)
    asked = {server.names[struct.unpack_from(">H", message)[0]].rpartition("_")[0] for message in server.received}
    assert asked <= {"show_version", "cli_inband"}
    assert all(command == "show memif" for command in server.vpp.commands)


STEPS = ["memif_socket_filename_add_del_v2", "memif_create_v2", "sw_interface_set_mtu", "sw_interface_add_del_address",
         "sw_interface_set_flags"]  # fmt: skip


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("step", STEPS)
def test_refusal_midway_leaves_nothing(
    step: str, role: Any, vpp: Vpp, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = getattr(server, f"_{step}")
    calls = []

    def refuse(fields: bytes) -> Any:
        calls.append(fields)
        if len(calls) == 1:
            raise Refused(-73, "")
        return first(fields)

    monkeypatch.setattr(server, f"_{step}", refuse)
    with (
        pytest.raises(VppError, match=r"VPP refused '.*': invalid argument \(-73\)") as caught,
        vpp.link(role=role, address="192.168.1.1/24", mtu=9000),
    ):
        pass
    assert caught.value.retval == -73
    assert calls


def test_error_in_the_block_goes_through(vpp: Vpp) -> None:
    with pytest.raises(ZeroDivisionError), vpp.link(timeout=within(10)):
        _ = 1 / 0


@pytest.mark.parametrize("role", ["slave", "master"])
def test_vpp_dies_inside_of_the_block(role: Any, folder: str) -> None:
    with ApiServer(f"{folder}/api.sock", StandIn(folder, retry=0.2)) as server, Vpp(f"{folder}/api.sock") as vpp:
        link = vpp.link(role=role, timeout=within(10))
        iface = link.__enter__()
        server.close()
        assert poll_until(lambda: iface.socket.poll(0.01) and not iface.up, 5)
        with pytest.raises((VppError, memif.MemifOSError)):
            link.__exit__(None, None, None)
        assert iface.closed
        with pytest.raises(memif.MemifClosedError):
            vpp.interfaces()


def test_imports_nothing_but_the_standard_library() -> None:
    code = "import sys; import memif.vpp; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=within(30), check=True)
    assert not {"numpy", "click", "rich", "scapy", "vpp_papi"} & set(done.stdout.split())


def test_link_that_does_not_come_up(vpp: Vpp, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.vpp, "set_state", lambda face, up: None)  # a slave that is down never connects
    with (
        pytest.raises(memif.MemifTimeoutError),
        vpp.link("@elsewhere", role="master", timeout=0.3),
    ):
        pass


def test_ctrl_c_while_vpp_is_silent(vpp: Vpp, server: ApiServer) -> None:
    """It comes after VPP has made the memif and before it has said so."""
    original = server._memif_create_v2

    def slow(fields: bytes) -> bytes:
        made = original(fields)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return made

    server._memif_create_v2 = slow  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt), vpp.link(timeout=within(10)):
        pass


def test_existing_memif_is_left_alone(vpp: Vpp, folder: str) -> None:
    mine = vpp.create(f"{folder}/own.sock")
    with pytest.raises(memif.MemifValueError, match="an id that is free: VPP has memif1/0"):
        vpp.create(f"{folder}/own.sock")
    with pytest.raises(memif.MemifValueError, match="VPP has memif1/0"), vpp.link(f"{folder}/own.sock"):
        pass
    with pytest.raises(VppError, match="one socket serves masters or slaves"):
        vpp.create(f"{folder}/own.sock", id=1, role="slave")
    assert [face.name for face in vpp.interfaces()] == ["memif1/0"]
    vpp.delete(mine)


def test_address_of_another_interface(vpp: Vpp, folder: str) -> None:
    mine = vpp.create(f"{folder}/own.sock", address="192.168.1.1/24")
    with pytest.raises(VppError, match="another interface has an address in this subnet"):
        vpp.create(f"{folder}/other.sock", address="192.168.1.1/24")
    vpp.delete(mine)


def test_vpp_that_says_more_than_asked(vpp: Vpp, server: ApiServer) -> None:
    server.news = True
    with vpp.link(timeout=within(10)) as iface:
        assert iface.up


def test_late_answer_is_not_taken_for_another(server: ApiServer, folder: str) -> None:
    server.mute.add("show_version")
    with pytest.raises(memif.MemifTimeoutError, match=r"did not answer within 0\.2 s"):
        Vpp(f"{folder}/api.sock", timeout=0.2)
    server.mute.clear()
    with Vpp(f"{folder}/api.sock", timeout=0.2) as vpp:
        server.mute.add("cli_inband")
        with pytest.raises(memif.MemifTimeoutError):
            vpp.cli("show memif")
        server.mute.clear()
        assert vpp.cli("show version").startswith("vpp v")


def test_unknown_command_is_vpps_error(vpp: Vpp) -> None:
    with pytest.raises(VppError, match="VPP refused 'show nonsense': unknown input") as caught:
        vpp.cli("show nonsense")
    assert caught.value.retval == -1


def test_secret_is_in_no_error(folder: str) -> None:
    with ApiServer(f"{folder}/api.sock", StandIn(folder), "old"), Vpp(f"{folder}/api.sock") as vpp:
        with pytest.raises(memif.MemifValueError, match="printable ASCII") as caught:
            vpp.create(secret="s3cr\n")
        assert "s3cr" not in str(caught.value)


def test_dead_vpp(folder: str) -> None:
    with pytest.raises(memif.MemifFileNotFoundError, match="VPP's API at"):
        Vpp(f"{folder}/none.sock")
    with ApiServer(f"{folder}/api.sock", StandIn(folder)):
        vpp = Vpp(f"{folder}/api.sock")
    with pytest.raises((VppError, memif.MemifOSError)):
        vpp.interfaces()
    vpp.close()
    with pytest.raises(memif.MemifClosedError):
        vpp.interfaces()


GARBAGE = {
    "text": b"SSH-2.0-OpenSSH_9.2 or anything that is not VPP",
    "huge": struct.pack(">QII", 0, 1 << 31, 0),
    "empty": struct.pack(">QII", 0, 0, 0),
    "short": struct.pack(">QII", 0, 6, 0) + b"\0\x10\0\0\0\0",
    "18.07": struct.pack(">QII", 0, 22, 0) + struct.pack(">HIiQI", 16, 1, 0, 0, 0),
    "table too short": struct.pack(">QII", 0, 20, 0) + struct.pack(">HIIiIH", 16, 0, 1, 0, 0, 9),
    "refusal": struct.pack(">QII", 0, 20, 0) + struct.pack(">HIIiIH", 16, 0, 1, -1, 0, 0),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_not_vpp(name: str, folder: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(f"{folder}/api.sock")
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(GARBAGE[name])

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(VppError, match=r"api\.sock"):
            Vpp(f"{folder}/api.sock")
        thread.join()


def test_return_values_have_words() -> None:
    assert all(value < 0 and text and text[-1] != "." for value, text in _WORDS.items())


def test_no_thread(vpp: Vpp) -> None:
    before = threading.active_count()
    with vpp.link(timeout=within(10)):
        assert threading.active_count() == before
