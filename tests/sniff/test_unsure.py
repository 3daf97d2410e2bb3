"""What ``memif sniff`` says was sent was sent, also where receivers write into packets and take chains apart."""

import json
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import memif as library
from ends import all_up
from libmemif_examples.programs import Program, example
from libmemif_examples.test_programs import pings
from memif.capture import CaptureReader
from memif.protocol.wire import AddRing
from memif.sniff import Receiver, RingCounters, RingTap
from memif.sniff.receiver import receiver_of
from patience import within
from sniff.test_processes import packets_of, until_exists
from tools.frames import ethernet, numbered, udp
from tools.process import Running, master, memif, running

SENT, ANSWER = b"\x88\xb5", b"\x88\xb6"


@contextmanager
def link(
    path: str, *args: object, serve: Callable[[library.Interface, library.Burst], None], role: str = "master"
) -> Iterator[tuple[library.Interface, Running, list[int]]]:
    """A link through the tool whose one end does `serve` with each burst, in a thread.

    Yields the other end, the tool, and the sizes of the bursts that were given back.
    """
    stop, released = threading.Event(), list[int]()

    def run(iface: library.Interface) -> None:
        iface.wait_up(20)
        try:
            while not stop.is_set():
                with iface.rx[0].recv(64, timeout=0.05) as burst:
                    count = len(burst)
                    if count:
                        serve(iface, burst)
                released.append(count)
        except library.MemifDisconnectedError:
            pass

    with library.listen(path) as server, running("sniff", *args, path + "t", path) as tool:
        until_exists(path + "t")
        with library.Socket(path + "t") as sock:
            client = sock.interface(role="slave")
            served, other = (server, client) if role == "master" else (client, server)
            thread = threading.Thread(target=run, args=(served,))
            thread.start()
            try:
                other.wait_up(20)
                time.sleep(0.2)
                yield other, tool, released
            finally:
                stop.set()
                thread.join()


def ends(path: str) -> tuple[str, str]:
    """Where the tool listens, and where the master does."""
    return path + "t", path


def in_place(iface: library.Interface, burst: library.Burst) -> None:
    """Make the answers of what was received, where it is."""
    for packet in burst:
        packet[12:14] = ANSWER
    iface.tx[0].forward(burst)


def kinds(file: Path, direction: str) -> set[bytes]:
    """The EtherTypes in one direction of a capture."""
    there, back = packets_of(file)
    return {packet.data[12:14] for packet in (there if direction == "out" else back)}


def comments(file: Path) -> list[str]:
    """The comment of each packet, as tshark reads it."""
    words = ["tshark", "-r", file, "-T", "fields", "-e", "frame.comment"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@contextmanager
def asleep(tool: Running) -> Iterator[None]:
    """Let it look only after all of this has happened."""
    tool.process.send_signal(signal.SIGSTOP)
    status = Path(f"/proc/{tool.process.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    try:
        yield
    finally:
        tool.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)


def ask(sender: library.Interface, released: list[int], count: int) -> None:
    """Send packets, each after the answer to the one before, and wait until all were given back."""
    for _ in range(count):
        assert sender.tx[0].send([bytes(12) + SENT + bytes(46)]) == 1
        with sender.rx[0].recv(8, timeout=within(5)) as burst:
            assert [bytes(packet[12:14]) for packet in burst] == [ANSWER]
    deadline = time.monotonic() + within(5)
    while sum(released) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("role", ["master", "slave"])
def test_what_a_receiver_writes_in_place_is_not_said_to_be_sent(socket_path: str, tmp_path: Path, role: str) -> None:
    file = tmp_path / "s.pcapng"
    with link(socket_path, "-w", file, "--json", serve=in_place, role=role) as (sender, tool, released):
        with asleep(tool):
            ask(sender, released, 100)
        result = tool.stop().json
    ring, other = result["links"][0]["rings"][:: 1 if role == "master" else -1]
    assert (ring["passed"], ring["seen"], ring["unsure"]) == (100, 100, 100)
    assert not kinds(file, "out" if role == "master" else "in")
    assert result["left_out"] == ring["unsure"] + other["unsure"]
    assert result["captured"] == sum(map(len, packets_of(file)))


def test_what_waits_for_its_receiver_is_what_was_sent(socket_path: str, tmp_path: Path) -> None:
    """It is taken, and changed, only after the tap has copied it."""
    file, go = tmp_path / "s.pcapng", threading.Event()

    def later(iface: library.Interface, burst: library.Burst) -> None:
        go.wait(within(20))
        in_place(iface, burst)

    with link(socket_path, "-w", file, "--json", serve=later) as (sender, tool, _):
        for _ in range(20):
            sender.tx[0].send([bytes(12) + SENT + bytes(46)])
        time.sleep(0.5)
        go.set()
        time.sleep(0.3)
        ring = tool.stop().json["links"][0]["rings"][0]
    assert (ring["seen"], ring["unsure"]) == (20, 0)
    assert [packet.data[12:14] for packet in packets_of(file)[0]] == [SENT] * 20


def test_unsure_packets_are_kept_when_asked_for_and_marked(socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "s.pcapng"
    with link(socket_path, "--unsure", "-w", file, serve=in_place) as (sender, tool, released):
        with asleep(tool):
            ask(sender, released, 100)
        end = tool.stop()
    there = packets_of(file)[0]
    assert [packet.data[12:14] for packet in there] == [ANSWER] * 100
    with CaptureReader(file) as reader:
        marks = [mark for mark, packet in zip(comments(file), reader, strict=True) if packet.direction == "out"]
    assert set(marks) == {"unsure: copied after it was received, may differ from what was sent"}
    assert "memif bridge -w FILE" in end.out
    assert "marked by a comment" in end.out


def test_lines_say_which_packets_are_unsure(socket_path: str) -> None:
    for options in ((), ("--json",)):
        with link(socket_path, "--unsure", "--no-control", *options, serve=in_place) as (sender, tool, _):
            for _ in range(20):
                sender.tx[0].send([bytes(12) + SENT + bytes(46)])
                time.sleep(0.005)
            time.sleep(0.3)
            out = tool.stop().out
        if options:
            assert any(json.loads(line).get("unsure") for line in out.splitlines() if '"summary"' in line)
        else:
            assert any(line.endswith(" (unsure)") for line in out.splitlines())


def test_a_libmemif_program_that_sends_the_buffers_back(socket_path: str, tmp_path: Path) -> None:
    """memif_buffer_enq_tx: requests are answered in place, and their buffers go into the other ring."""
    file = tmp_path / "s.pcapng"
    with library.listen(socket_path) as server, running("sniff", "-w", file, "--json", *ends(socket_path)) as tool:
        until_exists(socket_path + "t")
        with Program(example("icmp_responder_zero_copy_slave", "--socket", socket_path + "t")) as slave:
            slave.tell("conn 0 0")
            server.wait_up(20)
            time.sleep(0.3)
            with asleep(tool):
                assert len(pings(server, "192.168.1.2", 56, 60)) == 60
            assert len(pings(server, "192.168.1.2", 57, 1)) == 1
            time.sleep(0.3)
            slave.tell("exit")
        result = tool.stop().json
    there, back = packets_of(file)
    assert {packet.data[34] for packet in there} <= {0}
    s2m, m2s = result["links"][0]["rings"]
    assert (s2m["passed"], m2s["passed"]) == (61, 61)
    assert m2s["unsure"] >= 60
    assert {packet.data[34] for packet in back} <= {8}
    assert result["captured"] + result["left_out"] == s2m["seen"] + m2s["seen"]


def test_our_responder_leaves_requests_as_they_are(socket_path: str, tmp_path: Path) -> None:
    """With --unsure each packet is in the file, and each is what was sent."""
    file = tmp_path / "s.pcapng"
    with (
        master(socket_path, "icmp-responder"),
        running("sniff", "--unsure", "-w", file, socket_path + "t", socket_path) as tool,
    ):
        until_exists(socket_path + "t")
        done = memif("ping", "--socket", socket_path + "t", "-c", 60, "-i", 0.02, "-s", 3000, "192.168.1.2")
        assert " 60 received" in done.out, done
        time.sleep(0.3)
        tool.stop()
    there, back = packets_of(file)
    for packets, kind in ((there, 8), (back, 0)):
        icmp = [packet.data for packet in packets if packet.data[12:14] == b"\x08\0"]
        assert len(icmp) == 60
        assert {(data[34], len(data)) for data in icmp} == {(kind, 3042)}


@pytest.mark.parametrize("role", ["master", "slave"])
def test_chains_are_one_packet_while_the_receiver_looks_at_them(socket_path: str, tmp_path: Path, role: str) -> None:
    """Our master clears NEXT as it receives, long before it gives the slots back."""
    file = tmp_path / "s.pcapng"
    frames = [ethernet(udp(bytes([i]) * (7958 + i))) for i in range(20)]

    def hold(iface: library.Interface, burst: library.Burst) -> None:
        time.sleep(0.1)

    with link(socket_path, "-w", file, "--json", serve=hold, role=role) as (sender, tool, _):
        for frame in frames:
            sender.tx[0].send([frame])
            time.sleep(0.12)
        time.sleep(0.3)
        result = tool.stop().json
    there, back = packets_of(file)
    got = [packet.data for packet in (there if role == "master" else back)]
    ring = result["links"][0]["rings"][role == "slave"]
    assert ring["passed"] == 80
    assert len(got) == ring["seen"] - ring["unsure"] > 0
    assert got == [frame for frame in frames if frame in got]
    assert ring["unjoined"] == 0


# -- rings filled here


class Ring:
    """A slave-to-master ring of 64 slots, whose buffers lie anywhere in a second region, as VPP's do."""

    def __init__(self, receiver: Receiver = Receiver.MAY_WRITE, published: int = 0, ethernet: bool = True) -> None:
        self.ring, self.pool = np.zeros(128 + 16 * 64, np.uint8), np.zeros(1 << 20, np.uint8)
        for slot in range(64):
            struct.pack_into("<HHII", self.ring, 128 + 16 * slot, 0, 1, published, 8192 * slot)
        announced = AddRing(s2m=True, index=0, region=0, offset=0, log2_ring_size=6)
        self.tap = RingTap([self.ring, self.pool], announced, receiver=receiver, ethernet=ethernet)
        self.head = 0

    def send(self, data: bytes, *sizes: int, flags: int = 0, back: bool = False) -> None:
        """A packet in pieces of these sizes, whose flags the receiver has cleared, or not (`flags`)."""
        at = 0
        for size in sizes:
            last = at + size == len(data)
            offset = 8192 * (self.head % 64)
            self.pool[offset : offset + size] = np.frombuffer(data[at : at + size], np.uint8)
            place = 128 + 16 * (self.head % 64)
            struct.pack_into("<HHII", self.ring, place, 0 if last else flags, 1, size, offset)
            at, self.head = at + size, self.head + 1
        assert at == len(data)
        struct.pack_into("<H", self.ring, 6, self.head)
        if back:
            struct.pack_into("<H", self.ring, 64, self.head)

    def packets(self, **options: int) -> tuple[list[bytes], list[bool], RingCounters]:
        """What the tap has of them, which are unsure, and its counters."""
        got: list[bytes] = []
        unsure: list[bool] = []
        while (batch := self.tap.take(**options)) is not None:
            got += batch.tobytes()
            unsure += batch.unsure.tolist()
        return got, unsure, self.tap.counters


def jumbo(size: int, seed: int = 1) -> bytes:
    """A frame with this many bytes of any kind."""
    return ethernet(udp(np.random.default_rng(seed).bytes(size - 42)))


@pytest.mark.parametrize("published", [0, 2048])
@pytest.mark.parametrize(
    "sizes",
    [(2062, 988), (2048, 988), (2062, 2048, 2048, 2048, 804), (1900, 500), (300, 2048, 100), (2048, 2048), (2062,)],
)
def test_pieces_of_any_size_are_joined_by_the_header(sizes: tuple[int, ...], published: int) -> None:
    ring = Ring(published=published)
    expected = []
    for seed in range(4):
        for packet, pieces in ((jumbo(sum(sizes), seed), sizes), (jumbo(90, seed), (90,)), (jumbo(3050), (2062, 988))):
            ring.send(packet, *pieces)
            expected.append(packet)
    got, unsure, counters = ring.packets()
    assert got == expected
    assert not any(unsure)
    assert (counters.unjoined, counters.missed) == (0, 0)


def test_flags_that_are_cleared_one_by_one() -> None:
    """The receiver is at it: the first pieces are marked as read already, the others are not yet."""
    whole = jumbo(9000)
    for cleared in range(5):
        ring = Ring()
        ring.send(whole, 2048, 2048, 2048, 2048, 808, flags=1)
        for slot in range(cleared):
            struct.pack_into("<H", ring.ring, 128 + 16 * slot, 0)
        ring.send(jumbo(60), 60)
        assert ring.packets()[0] == [whole, jumbo(60)]


def test_what_cannot_be_joined_is_unsure_and_counted() -> None:
    """Not IP, so nothing says how long it is."""
    ring = Ring()
    strange = ethernet(b"?" * 5000, 0x88B5)
    ring.send(jumbo(100), 100)
    ring.send(strange, 2048, 2048, 918)
    ring.send(jumbo(200), 200)
    got, unsure, counters = ring.packets()
    assert got == [jumbo(100), strange[:2048], strange[2048:4096], strange[4096:], jumbo(200)]
    assert unsure == [False, True, True, True, False]
    assert (counters.unjoined, counters.unsure) == (3, 3)


def test_a_packet_that_was_sent_shorter_than_its_header_says_is_one() -> None:
    """As replayed captures are whose packets were cut."""
    ring = Ring()
    cut = [jumbo(1514, seed)[:96] for seed in range(20)]
    for packet in cut:
        ring.send(packet, 96)
    got, unsure, counters = ring.packets()
    assert got == cut
    assert not any(unsure)
    assert counters.unjoined == 0


def test_a_chain_that_a_limit_cuts_comes_whole_the_next_time() -> None:
    ring = Ring()
    packets = [jumbo(5000, seed) for seed in range(6)]
    for packet in packets:
        ring.send(packet, 2048, 2048, 904)
    got, unsure, counters = ring.packets(limit=4)
    assert got == packets
    assert not any(unsure)
    assert (counters.seen, counters.missed) == (6, 0)


def test_after_a_gap_the_rest_of_a_chain_is_not_taken_for_packets() -> None:
    ring = Ring()
    strange = ethernet(b"?" * 6000, 0x88B5)
    for seed in range(30):
        ring.send(jumbo(5000, seed), 2048, 2048, 904, back=True)
        ring.send(strange, 2048, 2048, 1918, back=True)
    got, unsure, counters = ring.packets()
    for packet, mark in zip(got, unsure, strict=True):
        assert mark or len(packet) == 5000
    assert counters.missed > 100


def test_ip_packets_without_ethernet_are_joined_too() -> None:
    ring = Ring(ethernet=False)
    packets = [jumbo(9014, seed)[14:] for seed in range(8)]
    for packet in packets:
        ring.send(packet, 2048, 2048, 2048, 2048, 808)
    got, unsure, _ = ring.packets()
    assert got == packets
    assert not any(unsure)


def test_what_was_given_back_is_unsure_unless_the_receiver_copies_and_buffers_stay() -> None:
    def outcome(receiver: Receiver, *, back: bool, swap: bool = False) -> list[bool]:
        ring = Ring(receiver, published=2048)
        for seed in range(3):
            ring.send(jumbo(100, seed), 100, back=back)
        if swap:
            struct.pack_into("<I", ring.ring, 128 + 8, 8192 * 60)
        return ring.packets()[1]

    assert outcome(Receiver.MAY_WRITE, back=False) == [False] * 3
    assert outcome(Receiver.MAY_WRITE, back=True) == [True] * 3
    assert outcome(Receiver.COPIES, back=True) == [False] * 3
    assert outcome(Receiver.COPIES, back=True, swap=True) == [True] * 3
    assert outcome(Receiver.KEEPS, back=False) == [True] * 3


@pytest.mark.parametrize("grown", [0, 14])
def test_what_a_slave_sends_on_was_received(grown: int) -> None:
    """It has not given the slot back, but its buffer is in a slot of the other ring."""
    ring, pool = np.zeros(2 * (128 + 16 * 64), np.uint8), np.zeros(1 << 20, np.uint8)
    offsets = {False: 1152, True: 0}
    for s2m, start in offsets.items():
        for slot in range(64):
            struct.pack_into("<HHII", ring, start + 128 + 16 * slot, 0, 1, 2048, 4096 * (slot + 64 * s2m) + 64)
    struct.pack_into("<H", ring, 1152 + 6, 64)  # all buffers of M2S are there to be filled
    sent, received = (
        RingTap([ring, pool], AddRing(s2m=s2m, index=0, region=0, offset=start, log2_ring_size=6))
        for s2m, start in sorted(offsets.items(), reverse=True)
    )
    received.watch([sent])
    received.track()
    for slot in range(5):
        pool[4096 * slot + 64 : 4096 * slot + 164] = np.frombuffer(jumbo(100, slot), np.uint8)
        struct.pack_into("<I", ring, 1152 + 128 + 16 * slot + 4, 100)
    struct.pack_into("<H", ring, 1152 + 64, 5)
    struct.pack_into("<I", ring, 128 + 8, 4096 * 3 + 64 - grown)
    batch = received.take()
    assert batch is not None
    assert batch.tobytes() == [jumbo(100, slot) for slot in range(5)]
    assert batch.unsure.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("app", "slave", "regions", "expected"),
    [
        ("VPP 26.10-rc0", False, 1, Receiver.COPIES),
        ("VPP 26.10-rc0", False, 2, Receiver.COPIES),
        ("VPP 26.10-rc0", True, 1, Receiver.COPIES),
        ("VPP 26.10-rc0", True, 2, Receiver.KEEPS),
        ("DPDK 22.11.4", True, 1, Receiver.COPIES),
        ("DPDK 22.11.4", True, 2, Receiver.KEEPS),
        ("memif for Python", True, 1, Receiver.MAY_WRITE),
        ("libmemif-app", False, 1, Receiver.MAY_WRITE),
        ("", False, 1, Receiver.MAY_WRITE),
    ],
)
def test_receivers_by_name(app: str, slave: bool, regions: int, expected: Receiver) -> None:
    assert receiver_of(app, slave=slave, regions=regions) is expected


def test_a_slow_reader_of_slow_traffic_has_it_all(socket_path: str, tmp_path: Path) -> None:
    """A receiver that takes its time: nothing is unsure, so all is there without --unsure."""
    file = tmp_path / "s.pcapng"
    frames = numbered(60)
    with library.listen(socket_path) as server, running("sniff", "-w", file, socket_path + "t", socket_path) as tool:
        until_exists(socket_path + "t")
        with library.Socket(socket_path + "t") as sock:
            client = sock.interface()
            all_up(server, client, timeout=20)
            time.sleep(0.2)
            for at in range(0, len(frames), 10):
                client.tx[0].send(frames[at : at + 10])
                time.sleep(0.1)
                with server.rx[0].recv(64, timeout=1) as burst:
                    assert burst.tobytes() == frames[at : at + 10]
            time.sleep(0.2)
            tool.stop()
    assert [packet.data for packet in packets_of(file)[0]] == frames
