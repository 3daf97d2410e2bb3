"""``memif ping`` beside the ping of the system: the same odd answers to both, the same lines and counts."""

import contextlib
import re
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import memif as library
from peers.host import HOST4, PEER4, THEIR_MAC, kernel_host
from tools.frames import checksum
from tools.process import memif, running

MAC = bytes.fromhex(THEIR_MAC.replace(":", ""))
ROUTER, SILENT = "192.0.2.254", "192.0.2.77"
Answer = Callable[[bytes, bytes], list[tuple[float, bytes]]]


def summed(raw: bytes, at: int) -> bytes:
    raw = raw[:at] + b"\0\0" + raw[at + 2 :]
    return raw[:at] + struct.pack("!H", checksum(raw)) + raw[at + 2 :]


def packet(icmp: bytes, source: str = PEER4) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0)
    return summed(head + bytes(map(int, source.split("."))) + bytes(map(int, HOST4.split("."))), 10) + icmp


def reply(icmp: bytes, data: bytes | None = None) -> bytes:
    return summed(bytes(4) + icmp[4:8] + (icmp[8:] if data is None else data), 2)


def about(kind: int, code: int, ip: bytes, icmp: bytes) -> bytes:
    return summed(struct.pack("!BBHI", kind, code, 0, 0) + ip + icmp[:8], 2)


def spoiled(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :]


#: What a peer says to a request, given as IPv4 header and ICMP: seconds to wait, and a packet.
ANSWERS: dict[str, Answer] = {
    "right": lambda ip, icmp: [(0, packet(reply(icmp)))],
    "late": lambda ip, icmp: [(1.3, packet(reply(icmp)))],
    "twice": lambda ip, icmp: [(0, packet(reply(icmp))), (0, packet(reply(icmp)))],
    "nothing": lambda ip, icmp: [],
    "wrong data": lambda ip, icmp: [(0, packet(reply(icmp, icmp[8:-1] + b"\xee")))],
    "wrong ICMP checksum": lambda ip, icmp: [(0, packet(spoiled(reply(icmp), 2)))],
    "wrong IP checksum": lambda ip, icmp: [(0, spoiled(packet(reply(icmp)), 10))],
    "another identifier": lambda ip, icmp: [(0, packet(reply(icmp[:4] + b"\xff\xfe" + icmp[6:])))],
    "host unreachable": lambda ip, icmp: [(0, packet(about(3, 1, ip, icmp), ROUTER))],
    "protocol unreachable": lambda ip, icmp: [(0, packet(about(3, 2, ip, icmp)))],
    "filtered": lambda ip, icmp: [(0, packet(about(3, 13, ip, icmp), ROUTER))],
    "time exceeded": lambda ip, icmp: [(0, packet(about(11, 0, ip, icmp), ROUTER))],
    "about another's packet": lambda ip, icmp: [
        (0, packet(about(3, 1, ip, icmp[:4] + b"\xff\xfe" + icmp[6:]), ROUTER))
    ],
    "error, then a reply": lambda ip, icmp: [(0, packet(about(11, 0, ip, icmp), ROUTER)), (0, packet(reply(icmp)))],
}


class Peer(threading.Thread):
    """A host that answers ARP for all but `SILENT`, and pings as told."""

    def __init__(
        self, receive: Callable[[], list[bytes]], send: Callable[[list[bytes]], object], answer: Answer
    ) -> None:
        super().__init__(name="peer")
        self.receive, self.send, self.answer = receive, send, answer
        self.stopped = threading.Event()
        self.later: list[tuple[float, bytes]] = []

    def run(self) -> None:
        with contextlib.suppress(library.MemifDisconnectedError):
            while not self.stopped.is_set():
                for frame in self.receive():
                    self.take(frame)
                now = time.monotonic()
                self.send([raw for due, raw in self.later if due <= now])
                self.later = [item for item in self.later if item[0] > now]

    def take(self, frame: bytes) -> None:
        if (
            frame[12:14] == b"\x08\x06"
            and frame[20:22] == b"\0\1"
            and frame[38:42] != bytes(map(int, SILENT.split(".")))
        ):
            self.send([(frame[6:12] + MAC + frame[12:21] + b"\2" + MAC + frame[38:42] + frame[22:32]).ljust(60, b"\0")])
        elif frame[12:14] == b"\x08\0" and frame[23] == 1 and frame[34] == 8:
            end = 14 + int.from_bytes(frame[16:18], "big")
            for wait, said in self.answer(frame[14:34], frame[34:end]):
                self.later.append((time.monotonic() + wait, (frame[6:12] + MAC + b"\x08\0" + said).ljust(60, b"\0")))

    def __enter__(self) -> "Peer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()


@contextlib.contextmanager
def memif_peer(path: str, answer: Answer) -> Iterator[None]:
    with library.listen(path) as interface:

        def receive() -> list[bytes]:
            if not interface.up:
                interface.socket.poll(0.02)
                return []
            with contextlib.suppress(library.MemifDisconnectedError), interface.rx[0].recv(64, timeout=0.02) as burst:
                return [bytes(frame) for frame in burst]
            return []

        with Peer(receive, lambda frames: interface.up and interface.tx[0].send(frames), answer):
            yield


def counts(output: str) -> dict[str, int]:
    """Of the summary; the name of a number stands behind it."""
    found = re.search(r"(\d+) packets transmitted, (\d+) received(.*?), [\d.]+% packet loss", output)
    assert found, output
    more = {name: int(number) for number, name in re.findall(r"\+(\d+) ([a-z]+)", found[3])}
    return {"sent": int(found[1]), "received": int(found[2]), **more}


def told(output: str) -> list[str]:
    """What is said of each answer, without its time."""
    said = [line for line in output.splitlines() if "icmp_seq=" in line or line.startswith("wrong")]
    return sorted(re.sub(r" time=[\d.]+ ms", "", line) for line in said)


def theirs(answer: Answer, target: str, *options: str) -> str:
    """The system's ping, behind a TAP."""
    with kernel_host() as host:

        def receive() -> list[bytes]:
            select.select([host.tap.fileno()], [], [], 0.02)
            return host.tap.recv()

        words = ["ip", "netns", "exec", host.netns, "ping", "-n", *options, target]
        with Peer(receive, host.tap.send, answer):
            return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout


#: Where ping(8) ends before it has seen all, as it takes errors for answers, waits less for late replies, and leaves
#: with the first of two.
HASTY = {
    "late": {"received": 3, "late": 3},
    "twice": {"received": 3, "duplicates": 3},
    "error, then a reply": {"received": 3, "errors": 3},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_lines_and_counts_are_those_of_ping(socket_path: str, name: str) -> None:
    with memif_peer(socket_path, ANSWERS[name]):
        ours = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 3, "-i", 0.3, "-W", 1, PEER4)
    found = counts(ours.out)
    found.pop("wrong", None)  # we say how many replies had wrong data, ping does not
    assert ours.code == (0 if found["received"] else 1)
    if name == "wrong ICMP checksum":  # which ping sees only by some kinds of sockets
        assert found == {"sent": 3, "received": 0, "corrupted": 3}
        assert ours.out.count("(BAD CHECKSUM!)") == 3
        return
    reference = theirs(ANSWERS[name], PEER4, "-c", "3", "-i", "0.3", "-W", "1")
    if name in HASTY:
        assert found == {"sent": 3, **HASTY[name]}
        assert set(told(reference)) <= set(told(ours.out)), (ours, reference)
    else:
        assert found == counts(reference), (ours, reference)
        assert told(ours.out) == told(reference), (ours, reference)


def test_nobody_answers_arp(socket_path: str) -> None:
    with memif_peer(socket_path, ANSWERS["right"]):
        ours = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 1, "-W", 4, SILENT)
    reference = theirs(ANSWERS["right"], SILENT, "-c", "1", "-W", "4")
    assert counts(ours.out) == counts(reference) == {"sent": 1, "received": 0, "errors": 1}
    assert told(ours.out) == told(reference) == [f"From {HOST4} icmp_seq=1 Destination Host Unreachable"]
    assert ours.code == 1


def test_replies_of_others_are_not_the_targets(socket_path: str) -> None:
    """ping(8) takes them as the target's but for a word."""
    with memif_peer(socket_path, lambda ip, icmp: [(0, packet(reply(icmp), "203.0.113.9"))]):
        ours = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 2, "-i", 0.1, PEER4)
        quiet = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 2, "-i", 0.1, "--json", PEER4)
    assert ours.out.count("bytes from 203.0.113.9") == ours.out.count("(DIFFERENT ADDRESS!)") == 2
    assert "2 transmitted" not in ours.out
    assert "2 packets transmitted, 0 received, +2 from others, 100% packet loss" in ours.out
    assert (ours.code, quiet.code, quiet.json["received"], quiet.json["from_others"]) == (1, 1, 0, 2)


def test_data_of_another_length(socket_path: str) -> None:
    with memif_peer(socket_path, lambda ip, icmp: [(0, packet(reply(icmp, icmp[8:40])))]):
        ours = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 1, PEER4)
    assert "wrong size: 32 bytes of data should be 56" in ours.out
    assert "1 received, +1 wrong data" in ours.out


def test_waiting_without_end(socket_path: str) -> None:
    """As with ping(8), -W 0 is no limit."""
    with memif_peer(socket_path, ANSWERS["late"]):
        done = memif("ping", "--socket", socket_path, "--ip", HOST4, "-c", 1, "-W", 0, PEER4)
    assert counts(done.out) == {"sent": 1, "received": 1}
    with (
        memif_peer(socket_path, ANSWERS["nothing"]),
        running("ping", "--socket", socket_path, "--ip", HOST4, "-c", 1, "-W", 0, PEER4, until="PING") as waiting,
    ):
        time.sleep(1.5)
        end: Any = waiting.stop()
    assert (counts(end.out), end.code) == ({"sent": 1, "received": 0}, 1)


def test_our_address_is_not_the_targets(socket_path: str) -> None:
    result = memif("ping", "--socket", socket_path, "--ip", "192.168.1.9/24", "192.168.1.9")
    assert (result.code, "is the target's address" in result.err) == (2, True)
    with library.listen(socket_path) as interface:
        with running("ping", "--socket", socket_path, "-c", 1, "-W", 0.2, "192.168.1.1"):
            interface.wait_up(20)
            with interface.rx[0].recv(1, timeout=20) as burst:
                frame = bytes(burst[0])
    assert frame[28:32] == bytes([192, 168, 1, 2])
    assert frame[38:42] == bytes([192, 168, 1, 1])


@pytest.mark.parametrize("target", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "host", "::1"])
def test_what_is_no_host(socket_path: str, target: str) -> None:
    assert memif("ping", "--socket", socket_path, target).code == 2
