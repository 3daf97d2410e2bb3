"""``memif show``, ``memif decode`` and the group of all verbs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import memif as library
from ends import pump, send_all
from memif.protocol import wire
from patience import within
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
    reports = [json.loads(line) for line in end.out.splitlines()]
    assert end.code == 0
    last = next(queue for queue in reports[-1]["queues"] if queue["direction"] == "rx")
    assert (last["packets"], last["drops"], last["used"]) == (2000, 0, 0)
    assert max(queue["pps"] for report in reports for queue in report["queues"]) > 100


def test_several_interfaces_and_queues(socket_path: str) -> None:
    """All that were asked for, their queues, and sums over all of them."""
    with library.Socket(socket_path) as socket:
        ends = [socket.interface(id=number, role="master", name=f"end{number}") for number in (0, 1, 2, 7)]
        options = ("--socket", socket_path, "--rx-queues", 2, "--tx-queues", 3, "--interval", 0.2)
        with running("show", "0-2", 7, *options, "--json") as tool:
            pump(*ends, until=lambda: all(end.up for end in ends), timeout=40)
            for count, end in enumerate(ends, 1):
                for queue in end.tx:
                    send_all(queue, numbered(100 * count))
            pump(*ends, until=lambda: tool.out.count('"packets": 800') >= 2, timeout=40)
            end = tool.stop(signal.SIGTERM)
        documents = {each["id"]: each for each in map(json.loads, end.out.splitlines())}
        assert [*documents] == [0, 1, 2, 7]
        for count, each in enumerate(documents.values(), 1):
            assert [(q["direction"], q["qid"]) for q in each["queues"]] == [
                *(("rx", 0), ("rx", 1), ("tx", 0), ("tx", 1), ("tx", 2))
            ]
            assert each["totals"]["rx"] | {"pps": 0, "bps": 0} == {
                "packets": 200 * count,
                "bytes": 200 * count * len(numbered(1)[0]),
                "pps": 0,
                "bps": 0,
                "drops": 0,
            }
        with running("show", "--once", "--timeout", within(20), "0-2", 7, *options) as tool:
            pump(*ends, until=lambda: tool.process.poll() is not None, timeout=40)
            end = tool.ended()
    assert end.code == 0
    assert end.out.startswith("New ends of 4 links: what arrives here is counted and dropped.")
    rows = [line.split() for line in end.out.splitlines() if " rx " in line or " tx " in line]
    assert [row[:3] for row in rows if row[0] == "7"] == [
        ["7", side, n] for side, n in zip(("rx", "rx", "tx", "tx", "tx"), "01012", strict=True)
    ]
    assert [row[:2] for row in rows if row[0] == "all"] == [["all", "rx"], ["all", "tx"]]
    assert max(len(line) for line in end.out.splitlines()) <= 80


def test_one_of_several_is_down(socket_path: str) -> None:
    with library.listen(socket_path, id=1) as end:
        with running("show", "1-2", "--once", "--timeout", 1, "--socket", socket_path) as tool:
            pump(end, until=lambda: tool.process.poll() is not None, timeout=40)
            result = tool.ended()
    assert result.code == 1
    links = [line.split(None, 1)[1] for line in result.out.splitlines() if line.startswith("link ")]
    assert links[0] == "up"
    assert links[1].startswith("down, ")
    assert "has no interface with id 2" in links[1]


@pytest.mark.parametrize("ids", [("x",), ("-1",), ("5-3",), ("0-300",), ("4294967296",), ("3", "--id", "3"), ("1-",)])
def test_wrong_ids(ids: tuple[str, ...]) -> None:
    result = memif("show", "--once", *ids)
    assert (result.code, result.out) == (2, "")


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
