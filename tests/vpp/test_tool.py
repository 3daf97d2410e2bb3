"""``memif vpp``: up, show, down and cli as processes, against the stand-in's API."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import memif as package
from patience import within
from peers.testpmd import poll_until
from tools.process import Result, memif, running
from vpp.server import ApiServer
from vpp.standin import StandIn


@pytest.fixture
def folder(socket_path: str) -> str:
    return str(Path(socket_path).parent)


@pytest.fixture
def server(folder: str) -> Iterator[ApiServer]:
    with ApiServer(f"{folder}/api.sock", StandIn(folder, retry=0.2)) as running:
        yield running


def vpp(folder: str, *words: object) -> Result:
    return memif("vpp", "--api", f"{folder}/api.sock", "--timeout", within(20), *words)


def test_up_prints_lines_that_make_the_other_side(server: ApiServer, folder: str) -> None:
    made = vpp(folder, "up", "--address", "192.168.1.1/24", f"{folder}/my.sock")
    assert made.code == 0, made.err
    head, other, command, python = made.out.splitlines()
    assert head == f"memif1/0 of VPP 26.10-stand-in is up: master on {folder}/my.sock, id 0"
    assert other == "the other side:"
    assert shlex.split(command)[:2] == ["memif", "icmp-responder"]
    face = next(iter(server.vpp.faces.values()))
    with running(*shlex.split(command)[1:], until="answering for 192.168.1.2"):
        assert poll_until(lambda: face.up, 10)
        said = vpp(folder, "cli", "ping 192.168.1.2 repeat 3")
        assert "3 sent, 2 received" in said.out
        assert "memif1/0     master up, connected       id 0 on" in vpp(folder, "show").out
    call = f"import memif\nwith {python.strip()} as iface: print(iface.up)"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, timeout=within(20), check=True)
    assert done.stdout == "True\n"
    assert vpp(folder, "down", "memif1/0").out == "memif1/0 is removed\n"
    assert (server.vpp.faces, list(server.vpp.sockets)) == ({}, [0])


def test_an_address_with_no_other_beside_it(server: ApiServer, folder: str) -> None:
    """A /32: the line for the other side leaves its address to whoever types it."""
    made = vpp(folder, "up", "--address", "192.168.1.1/32", f"{folder}/my.sock")
    assert made.code == 0, made.err
    assert "--ip" not in made.out
    assert len(made.out.splitlines()) == 4


def test_all_options(server: ApiServer, folder: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    made = vpp(
        folder, "up", "--json", "--role", "slave", "--id", 7, "--mode", "ip", "--secret-file", secret, "--rx-queues", 2,
        "--tx-queues", 3, "--ring-size", 128, "--buffer-size", 4096, "--no-zero-copy", "--mac", "02:00:00:00:00:05",
        "--mtu", 8000, "--address", "10.0.0.1/24", "--address", "2001:db8::1/64", "--admin-down", "@elsewhere",
    )  # fmt: skip
    assert made.code == 0, made.err
    (face,) = server.vpp.faces.values()
    assert (face.slave, face.id, face.mode, face.zero_copy, face.mac) == (True, 7, 1, False, b"\2\0\0\0\0\5")
    assert (face.mtu, face.admin_up, [str(a) for a in face.addresses]) == (
        8000,
        False,
        ["10.0.0.1/24", "2001:db8::1/64"],
    )
    expected = {"secret": b"s3cret", "rx_queues": 2, "tx_queues": 3, "ring_size": 128, "buffer_size": 4096}
    assert face.options == expected
    assert made.json["socket"] == "abstract:elsewhere"
    assert made.json["other_side"] == [
        f"memif icmp-responder --socket @elsewhere --role master --id 7 --mode ip --secret-file {secret} --ip 10.0.0.2",
        'memif.listen("@elsewhere", id=7, mode="ip", secret=...)',
    ]
    shown = vpp(folder, "show", "--json").json
    assert shown["version"] == "26.10-stand-in"
    assert [(one["name"], one["socket"], one["admin_up"]) for one in shown["interfaces"]] == [
        ("memif1/7", "abstract:elsewhere", False)
    ]
    assert vpp(folder, "down", "--keep-socket", "abstract:elsewhere").code == 0
    assert (server.vpp.faces, list(server.vpp.sockets)) == ({}, [0, 1])


def test_down_alone_removes_the_only_one(server: ApiServer, folder: str) -> None:
    assert vpp(folder, "up").code == 0
    assert vpp(folder, "down").out == "memif0/0 is removed\n"
    for id in (1, 2):
        assert vpp(folder, "up", "--id", id).code == 0
    both = vpp(folder, "down")
    assert (both.code, both.err) == (1, "memif: VPP has 2 memifs: memif0/1 memif0/2; say which\n")
    assert vpp(folder, "down", "--json", "memif0/1", "memif0/2").json == {"removed": ["memif0/1", "memif0/2"]}
    assert vpp(folder, "down").err.startswith("memif: VPP has 0 memifs")


def test_errors_in_one_line(server: ApiServer, folder: str) -> None:
    refused = vpp(folder, "cli", "show nonsense")
    assert refused.code == 1
    assert refused.err.startswith("memif: VPP refused 'show nonsense': unknown input")
    assert vpp(folder, "down", "memif9/9").err.startswith("memif: VPP has no memif 'memif9/9'")
    wrong = vpp(folder, "up", "--ring-size", 100)
    assert (wrong.code, "ring_size: got 100" in wrong.err) == (2, True)
    assert vpp(folder, "up", "--address", "10.0.0.1/24").code == 0
    twice = vpp(folder, "up", "--address", "10.0.0.1/24", f"{folder}/b.sock")
    assert (twice.code, "another interface has an address in this subnet" in twice.err) == (1, True)
    assert [face.name for face in server.vpp.faces.values()] == ["memif0/0"]


def test_no_vpp(folder: str) -> None:
    none = vpp(folder, "show")
    assert none.code == 1
    assert none.err.startswith(f"memif: VPP's API at {folder}/api.sock: No such file")
    assert package.vpp.API_SOCKET == "/run/vpp/api.sock"
