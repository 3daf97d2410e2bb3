"""Control messages as text, and found again in the output of strace, xxd and hexdump."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from capture.tools import run
from memif.capture import CaptureFormatError, ControlRecord, describe, parse_dump
from memif.errors import MemifError
from memif.protocol import wire
from peers.settings import missing

MESSAGES: list[wire.Message] = [
    wire.Hello(name="VPP 23.02"),
    wire.Init(id=7, mode=1, secret=b'hush\x1b"\\', name="app"),
    wire.Ack(),
    wire.AddRegion(index=0, size=1 << 32),
    wire.AddRing(s2m=True, index=3, region=1, offset=4096, log2_ring_size=10),
    wire.Connect(if_name="memif1/0"),
    wire.Connected(if_name="peer \N{GREEK SMALL LETTER ALPHA}"),
    wire.Disconnect(code=22, reason="interface deleted"),
]


def test_every_field_is_shown_at_its_offset() -> None:
    assert describe(wire.encode(MESSAGES[4])).splitlines() == [
        "ADD_RING (from slave)",
        "  @2   s2m                1 (S2M, slave to master)",
        "  @4   index              3",
        "  @6   region             1",
        "  @8   offset             4096 (0x1000)",
        "  @12  log2_ring_size     10 (1024 descriptors)",
        "  @13  private_hdr_size   0",
    ]
    hello = describe(MESSAGES[0])
    assert '  @2   name               "VPP 23.02"' in hello
    assert "  @34  min_version        512 (2.0)" in hello
    assert "  @44  max_log2_ring_size 14" in hello


def test_secret_is_masked_unless_asked_for() -> None:
    raw = wire.encode(MESSAGES[1])
    assert "hush" not in describe(raw)
    assert "secret             set (hidden)" in describe(raw)
    assert "secret             none" in describe(wire.Init(id=1))
    assert "hush\\x1b" in describe(raw, show_secret=True)


def test_descriptors_and_rubbish_behind_the_fields_are_told() -> None:
    raw = bytearray(wire.encode(wire.AddRegion(index=1, size=4096)))
    raw[12] = 1
    text = describe(raw, fds=(9,))
    assert "@12  unused bytes       not zero" in text
    assert "descriptor         9" in text


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(min_size=127, max_size=127).map(lambda b: b"\x00" + b)))
def test_describe_never_fails(raw: bytes) -> None:
    assert all(line.isprintable() for line in describe(raw, show_secret=True).splitlines())


def test_not_a_message_is_one_line() -> None:
    assert describe(b"\x63" + bytes(127)).startswith("not a memif message: ")
    assert "\n" not in describe(b"short")


@pytest.mark.parametrize("command", [["xxd"], ["xxd", "-g1"], ["xxd", "-p"], ["xxd", "-p", "-c0"], ["hexdump", "-C"]])
@pytest.mark.parametrize("count", [1, 8])
def test_hex_dumps(command: list[str], count: int) -> None:
    for start in range(0, 8, count):
        chosen = MESSAGES[start : start + count]
        text = run(*command, stdin=b"".join(map(wire.encode, chosen))).decode()
        assert parse_dump(text) == [("unknown", message, ()) for message in chosen]


TALK = """
import array, os, socket, sys

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
fd = os.memfd_create("region")
for line in sys.stdin:
    raw = bytes.fromhex(line)
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if raw[0] == 4 else []
    ours.sendmsg([raw], control)
    _, received, _, _ = theirs.recvmsg(128, 256)
    print(received[-1][2].hex() if control else "-", fd)
ours.sendmsg([b"other traffic"])
"""


@pytest.mark.parametrize("options", [["-xx"], ["-x"], [], ["-xx", "-f", "-yy", "-tt"]])
def test_real_strace(tmp_path: Path, options: list[str]) -> None:
    if shutil.which("strace") is None:
        missing("strace is missing: apt-get install strace")
    log = tmp_path / "log"
    command = [
        "strace",
        *options,
        "-s",
        "256",
        "-e",
        "trace=sendmsg,recvmsg",
        "-o",
        str(log),
        sys.executable,
        "-c",
        TALK,
    ]
    text = "\n".join(wire.encode(message).hex() for message in MESSAGES)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    if "ptrace" in done.stderr:
        missing(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    records = parse_dump(log.read_text())
    assert [r.message for r in records] == [m for m in MESSAGES for _ in range(2)]
    assert [r.direction for r in records] == ["out", "in"] * len(MESSAGES)
    sent = int(done.stdout.splitlines()[3].split()[1])
    received = int.from_bytes(bytes.fromhex(done.stdout.splitlines()[3].split()[0]), sys.byteorder)
    expected = [(sent,), (received,)]
    assert [r.fds for r in records] == [()] * 6 + expected + [()] * 8


def test_calls_cut_in_two_by_other_threads() -> None:
    literal = "".join(f"\\x{byte:02x}" for byte in wire.encode(MESSAGES[2]))
    text = f"""[pid  7] recvmsg(5,  <unfinished ...>
[pid  8] sendmsg(6, {{msg_name=NULL, msg_iov=[{{iov_base="{literal}", iov_len=128}}], msg_iovlen=1}}, 0
<unfinished ...> [pid  7] <... recvmsg resumed>{{msg_name=NULL, msg_iov=[{{iov_base="{literal}",
iov_len=128}}], msg_iovlen=1}}, 0) = 128 [pid  8] <... sendmsg resumed>) = 128 [pid  8] recvmsg(6,
{{msg_namelen=0}}, 0) = -1 EAGAIN (Resource temporarily unavailable)
"""
    assert parse_dump(text) == [("out", wire.Ack(), ()), ("in", wire.Ack(), ())]


def test_what_is_no_message_comes_back_as_bytes() -> None:
    raw = b"\x63" + bytes(127)
    (record,) = parse_dump(raw.hex())
    assert record == ControlRecord("unknown", raw, ())
    assert describe(record.message).startswith("not a memif message")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "0 bytes"),
        ("00 01 02", "3 bytes"),
        ("hello", "line 1: neither"),
        (
            'sendmsg(5, {msg_iov=[{iov_base="\\2\\0"..., iov_len=128}]}, 0) = 128',
            "line 1: strace cut the data",
        ),
        ("00000000  00 00\n*\nffffffff\n", "line 3: offset"),
    ],
)
def test_what_can_not_be_understood_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(CaptureFormatError) as caught:
        parse_dump(text)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300),
    st.sampled_from(["", "sendmsg(1, ", 'recvmsg(1, {iov_base="', "00000000  00 01\n*\n"]),
)
def test_any_text_gives_records_or_our_error(text: str, start: str) -> None:
    try:
        parse_dump(start + text)
    except MemifError:
        pass
