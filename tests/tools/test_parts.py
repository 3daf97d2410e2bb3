"""The parts of the tools that are more than options: units, stamps, traffic patterns, filters."""

import struct
import time

import click
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from memif.tools.files import make_filter, matches_mode
from memif.tools.stamp import Analysis, restamp, stamp
from memif.tools.traffic import make_pool, parse_increment, parse_sizes, udp_frames
from memif.tools.values import FILE_SIZE, Count, Rate, RateType, seconds, si, sparkline
from tools.frames import checksum, echo, ethernet, udp


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("500", 500),
        ("10k", 10_000),
        ("1.5M", 1_500_000),
        ("2G", 2_000_000_000),
        ("64Ki", 65536),
        (" 7 ", 7),
    ],
)
def test_counts(text: str, value: int) -> None:
    assert Count().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5", "k", "1x", "1e3", "0x10", "1 2", "inf", "nan"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(click.BadParameter, match="whole number"):
        Count().convert(text, None, None)


def test_file_sizes_take_a_unit() -> None:
    assert FILE_SIZE.convert("10MB", None, None) == 10_000_000
    with pytest.raises(click.BadParameter):
        FILE_SIZE.convert("0", None, None)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100k", Rate(1e5, False)),
        ("1.5Mpps", Rate(1.5e6, False)),
        ("10Mbit", Rate(1e7, True)),
        ("1Gbps", Rate(1e9, True)),
        ("8 kbit/s", Rate(8e3, True)),
        ("3p/s", Rate(3, False)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    assert RateType().convert(text, None, None) == rate
    assert Rate(8e6, True).packets(1000) == 1000


@given(st.floats(0, 1e15))
def test_numbers_are_short(value: float) -> None:
    text = si(value, "pps")
    assert len(text) <= 15
    if 1 <= value < 1e12:
        number, _, unit = text.partition(" ")
        scale = {"G": 1e9, "M": 1e6, "k": 1e3}.get(unit[0], 1)
        assert abs(float(number) * scale - value) <= 0.006 * value + 0.5 * (scale == 1)


def test_times_and_sparklines() -> None:
    assert [seconds(t) for t in (0, 5e-9, 1.5e-6, 0.25, 61)] == ["0 ns", "5 ns", "1.5 µs", "250 ms", "61 s"]
    assert sparkline([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def stamped(numbers: list[int], *, stream: int = 3, ns: int = 1000) -> np.ndarray:
    """Rows of 64 bytes with stamps at 42."""
    stamps = [struct.pack("<HQQ", 0x694D, number | stream << 56, ns) for number in numbers]
    rows = [bytes(42) + one + bytes(4) for one in stamps]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(numbers), 64)


def analyse(*bursts: list[int]) -> Analysis:
    """What a sink finds in bursts of numbered packets, received 9 µs after they were sent."""
    analysis = Analysis(42)
    for burst in bursts:
        analysis.add(stamped(burst), np.full(len(burst), 64, np.uint32), 10_000)
    return analysis


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=300, unique=True), st.integers(1, 50))
def test_loss_and_order(numbers: list[int], size: int) -> None:
    numbers[0] = min(numbers)  # what came before the first is not known to exist
    numbers = list(dict.fromkeys(numbers))
    result = analyse(*(numbers[at : at + size] for at in range(0, len(numbers), size)))
    assert result.received == len(numbers)
    assert result.lost == max(numbers) - min(numbers) + 1 - len(numbers)
    assert result.duplicates == 0
    assert result.reordered == sum(n < max(numbers[:i]) for i, n in enumerate(numbers) if i)


def test_duplicates_latency_and_strangers() -> None:
    result = analyse([0, 1, 2], [2, 3, 3])
    assert (result.lost, result.duplicates, result.reordered) == (0, 2, 2)
    latency = result.latency()
    assert latency is not None
    assert latency["min"] == latency["max"] == pytest.approx(9e-6)
    assert latency["p50"] == pytest.approx(9e-6, rel=0.07)
    assert sum(count for _, _, count in result.histogram()) == 6
    result.add(np.zeros((4, 64), np.uint8), np.full(4, 64, np.uint32), 0)
    result.add(stamped([9]), np.array([50], np.uint32), 0)  # too short for what the row pretends
    assert result.unstamped == 5
    assert Analysis(42).latency() is None


def test_rows_are_stamped_and_stamped_anew() -> None:
    matrix = np.full((5, 70), 0xAA, np.uint8)
    before = time.monotonic_ns()
    stamp(matrix[::2, :66], 48, 255, 2**56 - 2)
    after = time.monotonic_ns()
    for i, row in enumerate(matrix):
        assert set(row[:48]) == set(row[66:]) == {0xAA}
        mark, word, ns = struct.unpack("<HQQ", row[48:66].tobytes())
        if i % 2:
            assert mark == 0xAAAA
        else:
            assert (mark, word >> 56, before <= ns <= after) == (0x694D, (255 if i < 4 else 0), True)
    assert restamp(matrix, 48, 3, 10) == 3
    assert [struct.unpack("<Q", row[50:58].tobytes())[0] - (3 << 56) for row in matrix[::2]] == [10, 11, 12]
    assert set(matrix[1]) == {0xAA}


@pytest.mark.parametrize("offset", [-1, 47, 1 << 40])
def test_there_has_to_be_room_for_a_stamp(offset: int) -> None:
    rows = np.zeros((2, 64), np.uint8)
    for call in (lambda: stamp(rows, offset, 0, 0), lambda: Analysis(offset).add(rows, np.zeros(2, np.uint32), 0)):
        with pytest.raises(ValueError, match="no room for 18 bytes"):
            call()


class Reference:
    """The same as `Analysis`, packet by packet, in the words of RFC 3550."""

    def __init__(self) -> None:
        self.streams: dict[int, dict[str, float]] = {}
        self.unstamped = 0

    def add(self, rows: list[bytes], lengths: list[int], now: int) -> None:
        for row, length in zip(rows, lengths, strict=True):
            mark, word, ns = struct.unpack("<HQQ", row[42:60])
            if mark != 0x694D or length < 60:
                self.unstamped += 1
                continue
            transit = (now - ns) % 2**64
            transit -= 2**64 * (transit >= 2**63)
            number = word & (1 << 56) - 1
            new = {"first": number, "received": 0, "highest": number - 1, "late": 0, "jitter": 0.0, "transit": transit}
            s = self.streams.setdefault(word >> 56, new)
            s["late"] += number <= s["highest"]
            s["highest"] = max(s["highest"], number)
            s["received"] += 1
            s["jitter"] += (abs(float(transit) - float(s["transit"])) - s["jitter"]) / 16
            s["transit"] = transit


WORDS = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 40), st.integers(7 << 56, (7 << 56) + 40))
TIMES = st.one_of(st.integers(0, 2**64 - 1), st.integers(10**12, 10**12 + 10**6))
ROWS = st.tuples(st.sampled_from([0x694D, 0x694D, 0x694D, 0x4D69]), WORDS, TIMES, st.sampled_from([64, 64, 60, 59, 0]))


@settings(max_examples=200)
@given(st.lists(st.lists(ROWS, min_size=1, max_size=20), min_size=1, max_size=5))
def test_any_stamp_is_counted_as_by_the_reference(bursts: list[list[tuple[int, int, int, int]]]) -> None:
    """What a peer writes into a stamp is anything."""
    analysis, reference = Analysis(42), Reference()
    now = 10**12 + 5 * 10**5
    for burst in bursts:
        rows = [bytes(42) + struct.pack("<HQQ", mark, word, ns) + bytes(4) for mark, word, ns, _ in burst]
        lengths = [length for _, _, _, length in burst]
        matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 64)
        assert analysis.add(matrix, np.array(lengths, np.uint32), now) == sum(lengths)
        reference.add(rows, lengths, now)
    assert analysis.unstamped == reference.unstamped
    found = [(s.first, s.received, s.highest, s.late) for s in analysis.streams]
    assert found == [(s["first"], s["received"], s["highest"], s["late"]) for _, s in sorted(reference.streams.items())]
    jitter = max((s["jitter"] for s in reference.streams.values()), default=0.0)
    assert analysis.jitter == pytest.approx(jitter * 1e-9, rel=1e-9)
    assert sum(count for _, _, count in analysis.histogram()) == analysis.received


@given(st.lists(st.integers(1, 2**62), min_size=1, max_size=50))
def test_percentiles_and_the_histogram_are_near(times: list[int]) -> None:
    analysis = Analysis(42)
    for ns in times:
        analysis.add(stamped([1], ns=0), np.array([64], np.uint32), ns)
    latency = analysis.latency()
    assert latency is not None
    ordered = sorted(times)
    for percent in (50, 90, 99):
        exact = ordered[max(-(-len(times) * percent // 100) - 1, 0)] * 1e-9
        assert exact * 0.999999 <= latency[f"p{percent}"] <= exact * 1.0626
    assert (latency["min"], latency["max"]) == (pytest.approx(ordered[0] * 1e-9), pytest.approx(ordered[-1] * 1e-9))
    low, _, _ = analysis.histogram()[0]
    _, high, _ = analysis.histogram()[-1]
    assert low <= ordered[0] * 1e-9 * 1.000001
    assert ordered[-1] * 1e-9 <= high * 1.000001


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("64", [64]),
        ("64,1500", [64, 1500]),
        ("60:2,100:1", [60, 100, 60]),
        ("1:1", [1]),
    ],
)
def test_patterns_of_sizes(text: str, sizes: list[int]) -> None:
    assert parse_sizes(text) == sizes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(60, 1500), min_size=1, max_size=5), st.integers(1, 100), st.integers(1, 100))
def test_a_pool_repeats_without_a_seam(sizes: list[int], hosts: int, ports: int) -> None:
    addresses = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    frames = udp_frames(sizes, (b"\x02" * 6, b"\x04" * 6), addresses, (1, 2), "ethernet")
    pool = make_pool(
        frames, [parse_increment(f"dst-ip:{hosts}"), parse_increment(f"src-port:{ports}")], "ethernet", stamped=True
    )
    count = len(pool.lengths)
    assert count % len(sizes) == count % hosts == count % ports == 0
    assert pool.stamp_at == 42
    for i in (0, 1, count // 2, count - 1):
        row = pool.matrix[i, : pool.lengths[i]].tobytes()
        assert len(row) == sizes[i % len(sizes)]
        assert checksum(row[14:34]) == 0
        assert int.from_bytes(row[30:34]) == 0x0A000002 + i % hosts
        assert int.from_bytes(row[34:36]) == (1 + i % ports) & 0xFFFF


def test_short_packets_carry_no_stamp() -> None:
    assert make_pool([b"x" * 59], [], "ethernet", stamped=True, template=True).stamp_at is None
    assert make_pool([b"x" * 46], [], "ip", stamped=True, template=True).stamp_at == 28


def test_a_filter_in_words_of_the_command_line() -> None:
    assert make_filter((), "ethernet") is None
    keep = make_filter(("udp", "port 53", "and", "greater 100"), "ethernet")
    assert keep is not None
    assert keep.match([ethernet(udp(b"x" * 100, 1, 53)), ethernet(udp(b"x" * 10, 1, 53))]).tolist() == [True, False]
    inside = make_filter(("icmp",), "ip")
    assert inside is not None
    assert inside.match([echo(), ethernet(echo())]).tolist() == [True, False]
    with pytest.raises(click.UsageError, match=r"filter 'udp and and': .*syntax error"):
        make_filter(("udp", "and", "and"), "ethernet")


def test_link_types() -> None:
    assert matches_mode(1, "ethernet")
    assert matches_mode(101, "ip")
    assert not matches_mode(101, "ethernet")
    assert not matches_mode(147, "ip")
