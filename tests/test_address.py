"""Socket names in all their spellings."""

import os
import socket
from pathlib import Path, PurePosixPath

import pytest

from memif.address import DEFAULT_SOCKET, Address, parse_address
from memif.errors import MemifValueError


@pytest.mark.parametrize(
    ("name", "kind", "sockaddr", "display"),
    [
        ("/run/vpp/memif.sock", "path", b"/run/vpp/memif.sock", "/run/vpp/memif.sock"),
        (b"/tmp/\xff.sock", "path", b"/tmp/\xff.sock", "/tmp/\udcff.sock"),
        ("/tmp/\xe9", "path", b"/tmp/\xc3\xa9", "/tmp/\xe9"),
        ("memif.sock", "path", b"memif.sock", "memif.sock"),
        (PurePosixPath("/a/b"), "path", b"/a/b", "/a/b"),
        (PurePosixPath("@a"), "path", b"@a", "./@a"),
        (PurePosixPath("abstract:a"), "path", b"abstract:a", "./abstract:a"),
        ("@name", "abstract", b"\0name", "@name"),
        (b"@name", "abstract", b"\0name", "@name"),
        ("@/run/memif.sock", "abstract", b"\0/run/memif.sock", "@/run/memif.sock"),
        ("abstract:name", "abstract", b"\0name", "@name"),
        ("abstract:a,b", "abstract", b"\0a,b", "@a,b"),
        ("\0name", "abstract", b"\0name", "@name"),
        ("\0name\0\0\0", "abstract", b"\0name\0\0\0", "@name"),
        ("x" * 107, "path", b"x" * 107, "x" * 107),
        ("@" + "x" * 107, "abstract", b"\0" + b"x" * 107, "@" + "x" * 107),
    ],
)
def test_spellings(name: str | bytes | os.PathLike[str], kind: str, sockaddr: bytes, display: str) -> None:
    address = parse_address(name)
    assert (address.kind, address.sockaddr, address.display) == (kind, sockaddr, display)
    assert str(address) == display


@pytest.mark.parametrize(
    "name",
    [
        "",
        "@",
        "abstract:",
        "\0",
        b"",
        "/tmp/a\0b",
        "@a\0b",
        "abstract:a\0b",
        "x" * 108,
        "@" + "x" * 108,
        "\xe9" * 54,
        "unix:/tmp/a",
        "abstract:a,netns_name=blue",
        "abstract:a,netns_pid=1",
        "\ud800",
        7,
        object(),
    ],
)
def test_refused(name: object) -> None:
    with pytest.raises(MemifValueError, match="path"):
        parse_address(name)  # type: ignore[arg-type]


def test_namespace_error_says_what_to_do() -> None:
    with pytest.raises(MemifValueError, match="ip netns exec"):
        parse_address("abstract:a,netns_name=blue")


def test_default_and_passing_through() -> None:
    assert parse_address() == parse_address(None) == parse_address(DEFAULT_SOCKET)
    address = Address("abstract", b"\0x", "@x")
    assert parse_address(address) is address


@pytest.mark.parametrize("name", ["@n", "/tmp/n", "n", PurePosixPath("@n"), PurePosixPath("unix:n")])
def test_display_can_be_parsed_again(name: str | os.PathLike[str]) -> None:
    first, again = parse_address(name), parse_address(parse_address(name).display)
    assert first.kind == again.kind
    assert os.path.normpath(again.sockaddr) == os.path.normpath(first.sockaddr)


def test_longest_names_can_be_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("y" * 107, f"@{os.getpid()}".ljust(108, "z"), "\0" + f"{os.getpid()}".ljust(107, "\0")):
        address = parse_address(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.bind(address.sockaddr)
            bound = sock.getsockname()
            assert (bound.encode() if isinstance(bound, str) else bound) == address.sockaddr
