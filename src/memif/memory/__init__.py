"""Shared memory: how it is laid out (`layout`), made and checked (`region`), supplied (`allocator`)."""

from memif.memory.allocator import (
    Allocator,
    HugepageAllocator,
    MemfdAllocator,
    allocator_map,
    allocator_page_size,
)
from memif.memory.layout import (
    MemoryLayout,
    RingPlace,
    infer_cache_line,
    plan_layout,
    probe_cache_line,
)
from memif.memory.region import check_peer_fd, create_memfd, keep_off_standard_fds, mapping_size, page_size

__all__ = [
    "Allocator",
    "HugepageAllocator",
    "MemfdAllocator",
    "MemoryLayout",
    "RingPlace",
    "allocator_map",
    "allocator_page_size",
    "check_peer_fd",
    "create_memfd",
    "infer_cache_line",
    "keep_off_standard_fds",
    "mapping_size",
    "page_size",
    "plan_layout",
    "probe_cache_line",
]
