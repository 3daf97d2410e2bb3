"""`memif.packet.Filter` against libpcap itself: expressions, and programs at random; on rows, packets and bursts."""

import copy
import ctypes
import ctypes.util
import pickle
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memif
from memif.errors import MemifError, MemifStateError, MemifTypeError, MemifValueError
from memif.packet import Filter
from memif.testing import pair
from packet.expressions import expressions
from packet.frames import matrix_of, random_frames

Instruction = tuple[int, int, int, int]
Judge = Callable[[bytes, int], bool]


class _Header(ctypes.Structure):
    _fields_ = [
        ("seconds", ctypes.c_long),
        ("fraction", ctypes.c_long),
        ("kept", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    ]


class _Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint), ("steps", ctypes.c_void_p)]


def pcap() -> Any:
    """The real libpcap."""
    library = ctypes.CDLL(ctypes.util.find_library("pcap") or "libpcap.so.0.8")
    library.pcap_open_dead.restype = ctypes.c_void_p
    for name in ("pcap_compile", "pcap_close"):
        getattr(library, name).argtypes = None
    library.pcap_offline_filter.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p]
    return library


def judge(library: Any, program: _Program) -> Judge:
    """What libpcap says to a packet, with this program."""
    header = _Header()
    run, references = library.pcap_offline_filter, (ctypes.byref(program), ctypes.byref(header))

    def passes(data: bytes, length: int) -> bool:
        header.kept, header.length = len(data), length
        return run(*references, data) != 0

    return passes


def compiled(expression: str, mode: str) -> Judge:
    """An expression as libpcap compiles and runs it, without anything of this package."""
    library, program = pcap(), _Program()
    handle = ctypes.c_void_p(library.pcap_open_dead(1 if mode == "ethernet" else 12, 262144))
    assert library.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, ctypes.c_uint32(0xFFFFFFFF)) == 0
    return judge(library, program)


def packets(mode: str, count: int, seed: int = 1) -> tuple[list[bytes], list[int]]:
    """Frames of all kinds, some cut, some damaged, some with anything in them; with their lengths on the wire."""
    rng = random.Random(seed)
    kept: list[bytes] = []
    lengths: list[int] = []
    for frame in random_frames(count, seed, mode):
        data = frame.raw
        lengths.append(len(data))
        kind = rng.random()
        if kind < 0.2:
            data = data[: rng.randrange(len(data) + 1)]
        elif kind < 0.4 and data:
            place = rng.randrange(min(len(data), 60))
            data = data[:place] + rng.randbytes(min(4, len(data) - place)) + data[place + 4 :]
        elif kind < 0.5:
            data = rng.randbytes(rng.choice((0, 1, 13, 14, 20, 60, 100)))
            lengths[-1] = len(data) + rng.choice((0, 0, 1000))
        kept.append(data)
    return kept, lengths


@pytest.mark.parametrize("mode", ["ethernet", "ip"])
def test_300_expressions_are_what_libpcap_says(mode: Any) -> None:
    data, lengths = packets(mode, 1000)
    sizes = np.array(lengths)
    width = max(map(len, data))
    differ = []
    passed = 0
    for expression in expressions(mode):
        passes = compiled(expression, mode)
        expected = [passes(one, length) for one, length in zip(data, lengths, strict=True)]
        keep = Filter(expression, mode=mode)
        if keep.match(data, sizes).tolist() != expected:
            differ.append(expression)
        passed += sum(expected)
        whole = [i for i, one in enumerate(data) if len(one) == lengths[i]]
        matrix, short = matrix_of([data[i] for i in whole], width)
        if keep.match(matrix, short).tolist() != [expected[i] for i in whole]:
            differ.append(f"{expression} on rows")
    assert not differ
    assert 10_000 < passed < 250_000  # both answers occur often


_LOADS = (0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1)
_CONSTANTS = (0x00, 0x01)
_ARITHMETIC = tuple(op | 4 | x for op in (0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0) for x in (0, 8))
_JUMPS = tuple(op | 5 | x for op in (0x10, 0x20, 0x30, 0x40) for x in (0, 8))
_OTHERS = (0x80, 0x81, 0x84, 0x07, 0x87)


def random_program(rng: random.Random) -> list[Instruction]:
    """A program that may run: every code, slots of memory written before they are read, jumps to anywhere ahead."""
    steps: list[Instruction] = [(0x02, 0, 0, slot) for slot in range(4)]
    count = rng.randrange(1, 40)
    for i in range(count):
        kind, left = rng.random(), count - i
        k = rng.choice(
            (0, 1, 2, 5, 14, 31, 60, 0x1FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, rng.getrandbits(32) & 0x7FFFFFFF)
        )
        if kind < 0.3:
            steps.append(
                (rng.choice(_LOADS), 0, 0, rng.choice((0, 12, 14, 23, 30, 50, 99, rng.randrange(200), k // 2)))
            )
        elif kind < 0.55:
            code = rng.choice(_ARITHMETIC)
            if code in (0x34, 0x94):
                k = max(k, 1)
            elif code in (0x64, 0x74):
                k %= 32
            steps.append((code, 0, 0, k))
        elif kind < 0.75:
            steps.append((rng.choice(_JUMPS), rng.randrange(min(left, 256)), rng.randrange(min(left, 256)), k))
        elif kind < 0.78:
            steps.append((0x05, 0, 0, rng.randrange(left)))
        elif kind < 0.85:
            steps.append((rng.choice((0x60, 0x61, 0x02, 0x03)), 0, 0, rng.randrange(4)))
        elif kind < 0.92:
            steps.append((rng.choice(_CONSTANTS), 0, 0, k))
        elif kind < 0.98:
            steps.append((rng.choice(_OTHERS), 0, 0, 0))
        else:
            steps.append((rng.choice((0x06, 0x16)), 0, 0, rng.choice((0, k))))
    return [*steps, (rng.choice((0x06, 0x16, 0x16)), 0, 0, rng.choice((0, 1)))]


def test_programs_at_random_do_what_libpcap_does() -> None:
    rng = random.Random(7)
    data, lengths = packets("ethernet", 60, 3)
    library = pcap()
    passed = 0
    for _ in range(3000):
        steps = random_program(rng)
        array = (_Step * len(steps))(*steps)
        passes = judge(library, _Program(len(steps), ctypes.addressof(array)))
        expected = [passes(one, length) for one, length in zip(data, lengths, strict=True)]
        assert Filter.from_instructions(steps).match(data, np.array(lengths)).tolist() == expected, steps
        passed += sum(expected)
    assert 3000 < passed < 170_000


RET: Instruction = (0x06, 0, 0, 1)
NO_PROGRAM: dict[str, tuple[list[Any], str]] = {
    "empty": ([], "1 to 4096"),
    "too long": ([(0x00, 0, 0, 0)] * 4096 + [RET], "1 to 4096"),
    "no return": ([(0x00, 0, 0, 1)], "return"),
    "jump last": ([RET, (0x05, 0, 0, 0)], "jump"),
    "jump behind": ([(0x05, 0, 0, 1), RET], "jump over at most 0"),
    "jump back": ([(0x00, 0, 0, 0), (0x05, 0, 0, 0xFFFFFFFF), RET], "jump"),
    "branch behind when true": ([(0x15, 1, 0, 0), RET], "jump"),
    "branch behind when false": ([(0x1D, 0, 1, 0), RET], "jump"),
    "no such code": ([(0xFF, 0, 0, 0), RET], "codes"),
    "no such code of 16 bits": ([(0x106, 0, 0, 0), RET], "codes"),
    "division by 0": ([(0x34, 0, 0, 0), RET], "divisor"),
    "rest of a division by 0": ([(0x94, 0, 0, 0), RET], "divisor"),
    "shift by 32": ([(0x64, 0, 0, 32), RET], "shift"),
    "memory 16": ([(0x02, 0, 0, 16), RET], "0 to 15"),
    "memory read first": ([(0x60, 0, 0, 3), RET], "written before"),
    "memory written on one way": ([(0x15, 0, 1, 5), (0x02, 0, 0, 2), (0x61, 0, 0, 2), RET], "written before"),
    "metadata": ([(0x28, 0, 0, 0xFFFFF000), RET], "metadata"),
    "of three": ([(1, 2, 3)], "four whole numbers"),
    "of text": ([("6", 0, 0, 0)], "four whole numbers"),
    "no list": ([5], "four whole numbers"),
    "wide": ([(6, 0, 0, 1 << 32)], "32 bits"),
    "negative": ([(6, -1, 0, 0)], "8"),
}


@pytest.mark.parametrize("name", NO_PROGRAM)
def test_programs_that_the_kernel_refuses_are_refused(name: str) -> None:
    steps, words = NO_PROGRAM[name]
    with pytest.raises(MemifValueError, match="instructions") as caught:
        Filter.from_instructions(steps)
    assert words in str(caught.value)


def test_the_output_of_tcpdump_is_a_program() -> None:
    """With -y, as tcpdump compiles for a capture file; it needs no device for that."""
    lines = subprocess.run(
        ["tcpdump", "-y", "EN10MB", "-ddd", "udp port 53"], capture_output=True, text=True, check=True, timeout=20
    ).stdout.splitlines()
    keep = Filter.from_instructions([tuple(map(int, line.split())) for line in lines[1:]])
    assert keep.instructions == Filter("udp port 53").instructions
    data, _ = packets("ethernet", 500)
    assert keep.match(data).tolist() == Filter("udp port 53").match(data).tolist()


Link = tuple[memif.Interface, memif.Interface]


@pytest.fixture
def chained() -> Iterator[Link]:
    """Two interfaces with buffers so small that most packets are chained."""
    with pair(buffer_size=64) as ends:
        yield ends


def received(link: Link, data: Sequence[bytes], *, by_master: bool) -> memif.Burst:
    """A burst with these packets."""
    master, slave = link
    sender, receiver = (slave, master) if by_master else (master, slave)
    assert sender.tx[0].send(list(data)) == len(data)
    burst = receiver.rx[0].recv(256, 1.0)
    assert burst.tobytes() == list(data)
    return burst


@pytest.mark.parametrize("by_master", [True, False])
@pytest.mark.parametrize("size", [64, 2048])
def test_bursts_are_filtered_where_they_are(size: int, by_master: bool) -> None:
    """As their bytes are, also where a number lies across the end of a buffer."""
    data = [one for one in packets("ethernet", 200)[0] if one][:60]
    with pair(buffer_size=size) as link, received(link, data, by_master=by_master) as burst:
        assert burst.chained == (size == 64)
        for expression in (*expressions("ethernet"), "ether[62:4] = 0", "ether[63:2] > 0", "ether[127:4] & 255 = 1"):
            keep = Filter(expression)
            assert keep.match(burst).tolist() == keep.match(data).tolist(), expression


def test_select_gives_the_packets_themselves(chained: Link) -> None:
    data = [bytes([i]) * (20 + 40 * i) for i in range(10)]
    with received(chained, data, by_master=True) as burst:
        chosen = burst.select(Filter("less 64"))
        assert [bytes(view) for view in chosen] == data[:2]
        chosen[0][:3] = b"abc"
        assert burst.tobytes()[0][:3] == b"abc"
        assert [bytes(view) for view in burst.select(burst.lengths > 300)] == data[8:]
        assert burst.select(Filter("greater 100000")) == []
        for wrong in (None, 5, "udp", object(), [True] * 10):
            with pytest.raises(MemifTypeError, match="chosen"):
                burst.select(wrong)  # type: ignore[arg-type]
        for shape in (9, 11, (10, 1)):
            with pytest.raises(MemifValueError, match=r"chosen.*\(10,\)"):
                burst.select(np.ones(shape, np.bool_))
    with pytest.raises(MemifStateError):
        burst.select(Filter("udp"))


def test_what_passes_is_forwarded(chained: Link) -> None:
    data = [bytes([i]) * (20 + 40 * i) for i in range(10)]
    master, slave = chained
    with received(chained, data, by_master=True) as burst:
        assert master.tx[0].forward(burst, select=Filter("greater 200").match(burst)) == 5
    with slave.rx[0].recv(16, 1.0) as back:
        assert back.tobytes() == data[5:]


def test_bursts_with_other_lengths_or_none() -> None:
    keep = Filter("greater 50")
    with pair() as (master, slave):
        with master.rx[0].recv(8, 0) as nothing:
            assert keep.match(nothing).shape == (0,)
            assert nothing.select(keep) == []
        with received((master, slave), [b"x" * 60] * 3, by_master=True) as burst:
            burst.lengths[1] = 40
            assert keep.match(burst).tolist() == [True, False, True]
            burst.lengths[1] = 100_000
            with pytest.raises(MemifValueError, match=r"lengths\[1\]"):
                keep.match(burst)
            with pytest.raises(MemifTypeError, match="lengths"):
                keep.match(burst, np.zeros(3, np.uint32))
            burst.lengths[1] = 60
        with pytest.raises(MemifStateError):
            keep.match(burst)
        with slave.tx[0].alloc(2, size=60) as empty:
            assert keep.match(empty).tolist() == [True, True]
            assert Filter("ether[20] != 0").match(empty).tolist() == [False, False]  # nothing of an earlier packet


def test_a_large_burst_is_filtered_too() -> None:
    with pair(ring_size=1024) as link:
        data = [i.to_bytes(2) * 30 for i in range(600)]
        master, slave = link
        assert slave.tx[0].send(data) == 600
        with master.rx[0].recv(600, 1.0) as burst:
            assert np.flatnonzero(Filter("ether[0:2] >= 590").match(burst)).tolist() == list(range(590, 600))


def test_rows_of_any_kind() -> None:
    """Rows with gaps, backwards, transposed, and more than are done under the interpreter lock."""
    wide = np.zeros((3000, 128), np.uint8)
    wide[::3, 12:14] = 8, 6
    keep = Filter("arp")
    expected = np.arange(3000) % 3 == 0
    lengths = np.full(3000, 60, np.int64)
    for matrix in (wide, wide[:, :64], np.asfortranarray(wide), wide[::-1][::-1]):
        assert (keep.match(matrix, lengths) == expected).all()
    assert (keep.match(wide[::-1], lengths) == expected[::-1]).all()
    assert not keep.match(wide[:, :13], lengths).any()
    assert keep.match(wide[:0], lengths[:0]).shape == (0,)


def test_a_filter_shows_what_it_is_and_can_be_copied() -> None:
    keep = Filter("udp port 53")
    assert repr(keep) == "<Filter 'udp port 53', ethernet>"
    for other in (pickle.loads(pickle.dumps(keep)), copy.deepcopy(keep)):
        assert (other.expression, other.mode, other.instructions) == (keep.expression, keep.mode, keep.instructions)
    assert repr(Filter.from_instructions([RET], mode="ip")) == "<Filter of 1 instructions, ip>"
    assert Filter("").match([b"anything"]).all()


@pytest.mark.parametrize(
    "expression", ["udp and and", "port x", "host", "net 10.0.0.1/8", "ip broadcast", "(" * 5000, "\udcff"]
)
def test_expressions_that_libpcap_does_not_understand(expression: str) -> None:
    with pytest.raises(MemifValueError, match="expression") as caught:
        Filter(expression)
    assert "pcap-filter(7)" in str(caught.value)


def test_without_libpcap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loader is given a library that does not exist."""
    from memif.packet import filters

    filters._library.cache_clear()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: str(tmp_path / "libpcap.so"))
    try:
        with pytest.raises(MemifError, match=r"apt-get install libpcap0\.8"):
            Filter("udp")
        assert Filter.from_instructions([RET]).match([b"x"]).all()
    finally:
        filters._library.cache_clear()


def test_a_loop_is_no_filter() -> None:
    with pytest.raises(MemifValueError, match="protochain, which is a loop"):
        Filter("ip protochain 6")
