"""The parts of the tools that are more than options: units, stamps, traffic patterns, filters."""

import click
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from memif.tools.files import make_filter, matches_mode
from memif.tools.stamp import MARK, Analysis, stamps
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
    rows = np.zeros((len(numbers), 64), np.uint8)
    view = stamps(rows, 42)
    view["mark"], view["ns"] = MARK, ns
    view["word"] = np.array(numbers, np.uint64) | np.uint64(stream << 56)
    return rows


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
    assert latency["p50"] == pytest.approx(9e-6, rel=0.1)
    assert sum(count for _, _, count in result.histogram()) == 6
    result.add(np.zeros((4, 64), np.uint8), np.full(4, 64, np.uint32), 0)
    result.add(stamped([9]), np.array([50], np.uint32), 0)  # too short for what the row pretends
    assert result.unstamped == 5
    assert Analysis(42).latency() is None


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
