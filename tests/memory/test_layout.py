"""Sizes and offsets of rings and buffers, and the checks of a peer's."""

import mmap
import struct
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from memif.errors import MemifProtocolError, MemifValueError
from memif.memory.layout import (
    OFFSET_REACH,
    MemoryLayout,
    RingPlace,
    infer_cache_line,
    plan_layout,
    probe_cache_line,
)
from memif.protocol.offers import check_offer, ring_header_size, ring_size_bytes


def place(index: int, offset: int, *, log2: int = 10, region: int = 0, s2m: bool = True) -> RingPlace:
    return RingPlace(s2m, index, region, offset, log2)


class TestPlan:
    def test_default(self) -> None:
        layout = plan_layout()
        # Two rings of 128 + 1024 * 16 bytes, as libmemif has them, then 2048 buffers of 2048 bytes, 33 lines apart.
        rings = [(ring.s2m, ring.index, ring.offset) for ring in layout.rings]
        assert rings == [(True, 0, 0), (False, 0, 16512)]
        assert (layout.buffer_region, layout.buffer_base, layout.buffer_stride) == (0, 33024, 2112)
        assert layout.region_sizes == (4362240,)
        assert layout.slot_offset(0, 0) == 33024
        assert layout.slot_offset(1, 3) == 33024 + (1024 + 3) * 2112

    def test_order_is_all_s2m_then_all_m2s(self) -> None:
        layout = plan_layout(3, 2, 4)
        assert [(ring.s2m, ring.index) for ring in layout.rings] == [
            (True, 0),
            (True, 1),
            (True, 2),
            (False, 0),
            (False, 1),
        ]
        assert layout.ring_size == 16

    def test_split_puts_buffers_at_the_start_of_region_1(self) -> None:
        layout = plan_layout(1, 1, 8, 1024, kind="split")
        assert (layout.buffer_region, layout.buffer_base) == (1, 0)
        # 2 * (128 + 4096) bytes of rings fill a bit more than two pages.
        assert layout.region_sizes == (3 * 4096, 512 * (1024 + 64))
        assert {ring.region for ring in layout.rings} == {0}

    def test_cache_line_of_128(self) -> None:
        layout = plan_layout(cache_line=128)
        assert layout.rings[1].offset - (16 << layout.log2_ring_size) == 256
        assert layout.rings[1].offset == 256 + 16384
        assert layout.buffer_base % 128 == 0

    @given(
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 12),
        st.integers(1, 9216),
        st.sampled_from([64, 128]),
        st.sampled_from(["single", "split"]),
    )
    def test_nothing_overlaps_and_everything_fits(
        self, s2m: int, m2s: int, log2: int, size: int, line: int, kind: str
    ) -> None:
        if s2m + m2s == 0:
            s2m = 1
        layout = plan_layout(s2m, m2s, log2, size, cache_line=line, kind=kind)  # type: ignore[arg-type]
        assert all(region % mmap.PAGESIZE == 0 for region in layout.region_sizes)
        check_offer(layout.region_sizes, layout.rings, line)
        self.check_buffers(layout)

    @staticmethod
    def check_buffers(layout: MemoryLayout) -> None:
        last = layout.ring_size - 1
        first_and_last = [layout.slot_offset(g, slot) for g in range(len(layout.rings)) for slot in (0, last)]
        assert all(offset % 64 == 0 for offset in first_and_last)
        if last:
            assert all(b - a >= layout.buffer_size for a, b in pairwise(first_and_last))
        assert first_and_last[-1] + layout.buffer_size <= layout.region_sizes[layout.buffer_region]
        if layout.buffer_region == 0:
            end = layout.rings[-1].offset + ring_size_bytes(layout.log2_ring_size, layout.cache_line)
            assert first_and_last[0] >= end

    def test_more_than_65536_slots_do_not_alias(self) -> None:
        layout = plan_layout(4, 4, 14, 2048)
        offsets = {layout.slot_offset(g, slot) for g in range(8) for slot in range(layout.ring_size)}
        assert len(offsets) == 8 * 16384

    def test_huge_page_rounding(self) -> None:
        assert plan_layout(page_size=2 << 20).region_sizes == (6 << 20,)

    def test_up_to_4_gib_and_not_beyond(self) -> None:
        fits = plan_layout(16, 15, 12, 32768)
        assert fits.region_sizes[0] <= OFFSET_REACH
        assert plan_layout(16, 16, 12, 32768, kind="split").region_sizes[1] == OFFSET_REACH
        assert plan_layout(16, 16, 12, 32768 - 64, kind="split").buffer_stride == 32768 - 64
        with pytest.raises(MemifValueError) as caught:
            plan_layout(16, 16, 12, 32768)
        for name in ("s2m_rings", "m2s_rings", "log2_ring_size", "buffer_size", "4 GiB"):
            assert name in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("s2m_rings", -1),
            ("m2s_rings", 257),
            ("log2_ring_size", 15),
            ("log2_ring_size", -1),
            ("buffer_size", 0),
            ("buffer_size", 65536),
            ("cache_line", 32),
            ("kind", "both"),
            ("page_size", 5000),
        ],
    )
    def test_wrong_argument_is_named(self, name: str, value: object) -> None:
        with pytest.raises(MemifValueError, match=name):
            plan_layout(**{name: value})  # type: ignore[arg-type]

    def test_at_least_one_ring(self) -> None:
        with pytest.raises(MemifValueError, match="s2m_rings"):
            plan_layout(0, 0)

    def test_slots_and_rings_out_of_range(self) -> None:
        layout = plan_layout(1, 1, 4)
        for number, slot in ((0, 16), (0, -1), (2, 0), (-1, 0)):
            with pytest.raises(MemifValueError):
                layout.slot_offset(number, slot)


class TestCheckRings:
    SIZE = ring_size_bytes(10)

    @pytest.mark.parametrize(
        ("ring", "reason"),
        [
            (place(0, 0, log2=15), "ring size out of range"),
            (place(0, 0, log2=255), "ring size out of range"),
            (place(0, 0, region=1), "unknown region"),
            (place(0, 8), "is not aligned"),
            (place(0, 16), "exceeds its region"),
            (place(0, 0xFFFFFFF0), "exceeds its region"),
        ],
    )
    def test_refused(self, ring: RingPlace, reason: str) -> None:
        with pytest.raises(MemifProtocolError, match=reason) as caught:
            check_offer([self.SIZE], [ring])
        assert len(caught.value.detail.encode()) <= 95

    def test_exact_fit(self) -> None:
        check_offer([self.SIZE], [place(0, 0)])
        with pytest.raises(MemifProtocolError):
            check_offer([self.SIZE - 1], [place(0, 0)])

    def test_larger_cache_line_needs_more_room(self) -> None:
        with pytest.raises(MemifProtocolError, match="exceeds its region"):
            check_offer([self.SIZE], [place(0, 0)], cache_line=128)

    def test_overlap_in_any_order(self) -> None:
        first, second = place(0, 0), place(0, self.SIZE - 16, s2m=False)
        for rings in ([first, second], [second, first]):
            with pytest.raises(MemifProtocolError, match=r"overlaps its neighbour \(m2s ring 0\)"):
                check_offer([1 << 20], rings)

    def test_same_offset_in_different_regions(self) -> None:
        check_offer([self.SIZE, self.SIZE], [place(0, 0), place(0, 0, region=1, s2m=False)])
        with pytest.raises(MemifProtocolError, match="overlaps"):
            check_offer([self.SIZE, self.SIZE], [place(0, 0, region=1), place(1, 0, region=1)])

    def test_longest_reason_fits_disconnect(self) -> None:
        ring = place(65535, 0xFFFFFFF0, log2=14, region=65535)
        with pytest.raises(MemifProtocolError) as caught:
            check_offer([(1 << 64) - 1] * 65535 + [1], [ring])
        assert len(caught.value.detail.encode()) <= 95


class TestCacheLine:
    @given(
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 14),
        st.sampled_from([64, 128]),
        st.sampled_from(["single", "split"]),
    )
    def test_inferred_from_two_rings(self, s2m: int, m2s: int, log2: int, line: int, kind: str) -> None:
        if s2m + m2s < 2:
            s2m, m2s = 1, 1
        layout = plan_layout(s2m, m2s, log2, 64, cache_line=line, kind=kind)  # type: ignore[arg-type]
        assert infer_cache_line(layout.rings, layout.region_sizes) == line
        assert infer_cache_line(layout.rings[::-1], layout.region_sizes) == line

    def test_rings_of_different_sizes(self) -> None:
        rings = [place(0, 0, log2=4), place(0, 256 + 256, log2=9, s2m=False)]
        assert infer_cache_line(rings) == 128

    def test_single_ring_says_nothing_unless_it_fills_its_region(self) -> None:
        assert infer_cache_line([place(0, 0)], [1 << 20]) is None
        assert infer_cache_line([place(0, 0)], [ring_size_bytes(10)]) == 64
        assert infer_cache_line([]) is None

    def test_nonsense_of_a_peer_does_no_harm(self) -> None:
        rings = [place(0, 0, log2=255, region=9), place(1, 5, log2=200, region=9)]
        assert infer_cache_line(rings, [16]) is None

    @pytest.mark.parametrize("line", [64, 128])
    @pytest.mark.parametrize("log2", [0, 1, 4, 10])
    def test_probed_from_the_descriptors(self, line: int, log2: int) -> None:
        layout = plan_layout(1, 0, log2, 2048, cache_line=line)
        memory = bytearray(layout.region_sizes[0])
        for slot in range(layout.ring_size):
            descriptor = ring_header_size(line) + slot * 16
            struct.pack_into("<HHII", memory, descriptor, 0, 0, 2048, layout.slot_offset(0, slot))
        assert probe_cache_line(memoryview(memory), layout.rings[0]) == line

    def test_probing_empty_or_absurd_rings(self) -> None:
        memory = memoryview(bytes(4096))
        assert probe_cache_line(memory, place(0, 0)) is None
        assert probe_cache_line(memory, place(0, 1 << 40, log2=255)) is None
