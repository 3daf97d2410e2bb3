"""``memif show``, ``memif decode`` and the group of all verbs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import memif as library
from ends import send_all
from memif.protocol import wire
from tools.frames import numbered
from tools.process import master, memif, running, words

MESSAGES = [
    wire.encode(wire.Hello(name="VPP 25.06")),
    wire.encode(wire.Init(id=7, secret=b"hush-hush", name="app")),
    wire.encode(wire.Ack()),
    wire.encode(wire.AddRegion(index=0, size=4096)),
    wire.encode(wire.AddRing(s2m=True, index=0, region=0, offset=0, log2_ring_size=10)),
    wire.encode(wire.Disconnect.because("interface deleted")),
]


def strace(messages: list[bytes]) -> str:
    """What strace -s 256 prints of some messages."""
    text = ""
    for data in messages:
        escaped = "".join(f"\\x{byte:02x}" for byte in data)
        text += f'sendmsg(7, {{msg_iov=[{{iov_base="{escaped}", iov_len=128}}], msg_iovlen=1}}, 0) = 128\n'
    return text


def test_an_interface_that_is_up(socket_path: str) -> None:
    with library.listen(socket_path, name="the-server", secret=b"s3cret") as iface:
        with running("show", "--once", "--socket", socket_path, "--secret", "s3cret", "--timeout", 30) as tool:
            iface.wait_up(30)
            while tool.process.poll() is None:
                iface.socket.poll(0.05)
            end = tool.ended()
    assert end.code == 0
    assert "the-server" in end.out
    assert f"pid {os.getpid()}" in end.out
    assert "s3cret" not in end.out
    rows = [line.split() for line in end.out.splitlines() if line.strip().startswith(("rx", "tx"))]
    assert [row[:3] for row in rows] == [["rx", "0", "1024"], ["tx", "0", "1024"]]
    assert max(len(line) for line in end.out.splitlines()) <= 80


def test_an_interface_that_is_down(socket_path: str) -> None:
    result = memif("show", "--once", "--timeout", 0.2, "--socket", socket_path, "--json")
    assert result.code == 1
    assert (result.json["link_up"], result.json["queues"]) == (False, [])


def test_rates_while_packets_come(socket_path: str) -> None:
    with master(socket_path, "show", "--json", "--interval", 0.2) as tool:
        with library.connect(socket_path, timeout=30) as iface:
            send_all(iface.tx[0], numbered(2000))
            time.sleep(1.0)
            end = tool.stop(signal.SIGTERM)
    import json

    reports = [json.loads(line) for line in end.out.splitlines()]
    assert end.code == 0
    last = next(queue for queue in reports[-1]["queues"] if queue["direction"] == "rx")
    assert (last["packets"], last["drops"], last["used"]) == (2000, 0, 0)
    assert max(queue["pps"] for report in reports for queue in report["queues"]) > 100


@pytest.mark.parametrize("kind", ["strace", "xxd", "hexdump"])
def test_messages_are_explained(tmp_path: Path, kind: str) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"".join(MESSAGES))
    text = (
        strace(MESSAGES)
        if kind == "strace"
        else subprocess.run(
            {"xxd": ["xxd", "-p", raw], "hexdump": ["od", "-A", "x", "-t", "x1", "-v", "-w16", raw]}[kind],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.replace(" ", "  ", 0)
    )
    if kind == "hexdump":
        text = "\n".join(f"{int(line.split()[0], 16):08x}  {' '.join(line.split()[1:])}" for line in text.splitlines())
    (tmp_path / "dump").write_text(text)
    result = memif("decode", tmp_path / "dump")
    assert result.code == 0, result.err
    for word in ("HELLO", "VPP 25.06", "INIT", "set (hidden)", "4096 (0x1000)", "1024 descriptors", "deleted"):
        assert word in result.out
    assert "hush" not in result.out
    assert "hush-hush" in memif("decode", "--show-secret", stdin=text.encode()).out
    documents = memif("decode", "--json", tmp_path / "dump").out.splitlines()
    assert len(documents) == 6
    assert '"secret": true' in documents[1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "0 bytes"),
        (b"some prose", "neither strace output nor a hex dump"),
        (b"00ff", "128 bytes each"),
        (b"\xff\xfe\x00", "line 1"),
        (strace(MESSAGES).replace("\\x00", "")[:60].encode(), "no control messages"),
        (strace(MESSAGES)[:300].encode() + b'"..., iov_len=128}]) = 128', "-s 256"),
    ],
)
def test_what_can_not_be_explained(content: bytes, word: str) -> None:
    result = memif("decode", stdin=content)
    assert (result.code, result.out) == (1, "")
    assert word in result.err
    assert len(result.err.splitlines()) == 1


VERBS = ["list", "show", "ping", "icmp-responder", "send", "sink", "capture", "replay", "bridge", "sniff", "decode"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_and_fits(verb: str) -> None:
    result = memif(verb, "--help")
    assert result.code == 0
    assert "Examples:" in result.out
    assert f"  memif {verb}" in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert "--json" in result.out


def test_the_list_of_verbs() -> None:
    result = memif("--help")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines() if line.strip().startswith(tuple(VERBS))]
    for verb in VERBS:
        assert f"  {verb} " in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert memif("no-such-verb").code == 2
    assert memif("--version").out.startswith("memif, version ")


def test_the_shell_completes_verbs_options_and_choices() -> None:
    def complete(line: str) -> list[str]:
        environment = os.environ | {
            "_MEMIF_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", "from memif.tools.cli import cli; cli(prog_name='memif')"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return [answer.partition(",")[2] for answer in done.stdout.splitlines()]

    assert complete("memif s") == ["show", "send", "sink", "sniff"]
    assert "--rotate-size" in complete("memif capture --ro")
    assert complete("memif sink --role ma") == ["master"]


def test_the_reader_of_the_output_may_leave(socket_path: str) -> None:
    with master(socket_path, "icmp-responder"):
        ping = " ".join(words("ping", "--socket", socket_path, "-c", "50", "-i", "0.01", "192.168.1.2"))
        line = ["bash", "-c", f"{ping} | head -1"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("PING")
