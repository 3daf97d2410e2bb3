"""An ICMP echo responder as a compiled handler: numba over the columns of a burst."""

from typing import Any

import numba


@numba.njit(cache=True)
def answer(memory: Any, offsets: Any, lengths: Any) -> int:
    """Turn echo requests (Ethernet, IPv4 without options) into their answers in place. -> how many."""
    count = 0
    for i in range(len(offsets)):
        at = offsets[i]
        if lengths[i] < 42 or memory[at + 12] != 8 or memory[at + 13] != 0 or memory[at + 14] != 0x45:
            continue
        if memory[at + 23] != 1 or memory[at + 34] != 8:
            continue
        for k in range(6):
            memory[at + k], memory[at + 6 + k] = memory[at + 6 + k], memory[at + k]
        for k in range(26, 30):
            memory[at + k], memory[at + 4 + k] = memory[at + 4 + k], memory[at + k]
        memory[at + 34] = 0
        total = (memory[at + 36] << 8) + memory[at + 37] + 0x0800  # RFC 1624: the type went from 8 to 0
        total = (total & 0xFFFF) + (total >> 16)
        memory[at + 36], memory[at + 37] = total >> 8, total & 0xFF
        count += 1
    return count
