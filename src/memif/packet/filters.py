"""Filters for packets, in the language of tcpdump: compiled by libpcap, checked here, and run by one native loop."""

import ctypes
import ctypes.util
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from memif.config import each, one_of, text_of
from memif.errors import MemifError, MemifTypeError, MemifValueError
from memif.ring import Burst

from ._filter import Program
from .classify import Bools, Mode
from .headers import Described, check_lengths, check_matrix

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing only: nothing to install

#: What packets begin with, in libpcap's numbers. That for IP is its own; in files it is 101.
_LINKTYPES: Final = {"ethernet": 1, "ip": 12}
_SNAPLEN: Final = 262144  # what a filter returns for a packet that passes
_UNKNOWN_NETMASK: Final = 0xFFFFFFFF
_JUMP: Final = 0x05
_LIMITS: Final = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)

Instruction = tuple[int, int, int, int]
"""Code, steps to jump over when true, when false, and the constant: a line of ``tcpdump -ddd``."""


class Filter:
    """An expression in the language of pcap-filter(7), such as ``"udp port 53 and not net 10"``.

    It says of whole bursts which packets pass, as tcpdump would. Any number of threads can use one. Needs libpcap to
    compile the expression (Debian: ``apt-get install libpcap0.8``), and only for that.

    Args:
        expression: What is to pass; "" is everything.
        mode: What packets begin with: "ethernet" or "ip", as the interface's mode.

    Attributes:
        expression: As given.
        mode: As given.
        instructions: The compiled program, as tuples (code, jt, jf, k).

    Raises:
        MemifValueError: libpcap does not understand the expression, or the mode is unknown.
        MemifTypeError: The expression is no text.
        MemifError: libpcap is not installed.

    Example:
        >>> keep = Filter("icmp or arp")  # doctest: +SKIP
        >>> with queue.recv() as burst:  # doctest: +SKIP
        ...     other.forward(burst, select=keep.match(burst))
    """

    expression: str
    mode: Mode
    instructions: tuple[Instruction, ...]

    def __init__(self, expression: str, *, mode: Mode = "ethernet") -> None:
        one_of("mode", mode, ("ethernet", "ip"))
        if "\0" in text_of("expression", expression):
            raise MemifValueError.argument("expression", expression, "text without a zero character")
        steps = _compile(expression, mode)
        if any(code == _JUMP and k >= len(steps) for code, _, _, k in steps):
            raise MemifValueError.argument("expression", expression, "without protochain, which is a loop")
        self._take(expression, mode, steps)

    @classmethod
    def from_instructions(cls, instructions: Iterable[Sequence[int]], *, mode: Mode = "ethernet") -> Self:
        """Make a filter of a program that was compiled elsewhere, without libpcap.

        Args:
            instructions: Each has four numbers: code, steps to jump over when true, when false, and the constant. So
                they stand in the output of ``tcpdump -ddd``, after its first line.
            mode: What the program expects packets to begin with.

        Raises:
            MemifValueError: The kernel would refuse the program: it jumps out of itself, has no return at its end, uses
                a code that does not exist, divides by 0, reads memory that it has not written, or is empty or longer
                than 4096 instructions. Or it looks at what only a socket of the kernel knows.
            MemifTypeError: These are no instructions.
        """
        one_of("mode", mode, ("ethernet", "ip"))
        taken = [_instruction(i, item) for i, item in enumerate(each("instructions", instructions))]
        made = cls.__new__(cls)
        made._take("", mode, taken)
        return made

    def _take(self, expression: str, mode: Mode, instructions: list[Instruction]) -> None:
        self.expression, self.mode, self.instructions = expression, mode, tuple(instructions)
        self._program = Program(instructions)

    def match(
        self, packets: "Burst | NDArray[np.uint8] | Iterable[Buffer]", lengths: NDArray[Any] | None = None
    ) -> Bools:
        """Find the packets that pass.

        Args:
            packets: A burst, which is read where it is, chained packets too; or a matrix, uint8, shape (n, width), the
                first bytes of each packet; or bytes-like objects, one a packet.
            lengths: Bytes on the wire, integers, shape (n,), where `packets` holds only the first bytes. A burst has
                its own. Default: of bytes-like objects their length. A matrix needs them.

        Returns:
            bool, shape (n,): an index for arrays of the same burst, and the ``select`` of `TxQueue.forward`. A packet
            that ends before what the expression asks for does not pass.

        Raises:
            MemifTypeError: An argument is of another kind.
            MemifValueError: `lengths` does not fit.
            MemifStateError: The burst was released.
        """
        if isinstance(packets, Burst):
            if lengths is not None:
                raise MemifTypeError.argument("lengths", Described(lengths), "None: a burst has its own")
            return self._program.burst(packets)
        if isinstance(packets, np.ndarray):
            check_matrix(packets, name="packets")
            return self._program.rows(packets, _sizes(lengths, len(packets)))
        listed = list(each("packets", packets))
        return self._program.packets(listed, None if lengths is None else _sizes(lengths, len(listed)))

    def __repr__(self) -> str:
        what = repr(self.expression) if self.expression else f"of {len(self.instructions)} instructions"
        return f"<Filter {what}, {self.mode}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.expression, self.mode, self.instructions)


def _restored(kind: type[Filter], expression: str, mode: Mode, instructions: tuple[Instruction, ...]) -> Filter:
    made = kind.from_instructions(instructions, mode=mode)
    made.expression = expression
    return made


def _sizes(lengths: Any, count: int) -> NDArray[Any]:
    """Return lengths as 32-bit numbers."""
    check_lengths("lengths", lengths, count)
    if lengths.dtype != np.uint32:
        if count and not 0 <= int(lengths.min()) <= int(lengths.max()) <= 0xFFFFFFFF:
            raise MemifValueError.argument("lengths", Described(lengths), "0 to 4294967295")
        lengths = lengths.astype(np.uint32)
    sizes: NDArray[Any] = lengths
    return sizes


def _instruction(i: int, item: Any) -> Instruction:
    try:
        code, jt, jf, k = (number.__index__() for number in item)
    except (AttributeError, TypeError, ValueError):
        raise MemifTypeError.argument(f"instructions[{i}]", item, "four whole numbers: code, jt, jf, k") from None
    if not all(0 <= number <= limit for number, limit in zip((code, jt, jf, k), _LIMITS, strict=True)):
        raise MemifValueError.argument(f"instructions[{i}]", item, "numbers of 16, 8, 8 and 32 bits")
    return code, jt, jf, k


# -- libpcap


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint), ("steps", ctypes.POINTER(_Instruction))]


def _compile(expression: str, mode: Mode) -> list[Instruction]:
    pcap = _library()
    program = _Program()
    handle = pcap.pcap_open_dead(_LINKTYPES[mode], _SNAPLEN)
    if not handle:
        raise MemifError("libpcap has no memory for a filter")
    try:
        text = expression.encode(errors="surrogateescape")
        if pcap.pcap_compile(handle, ctypes.byref(program), text, 1, _UNKNOWN_NETMASK):
            reason = pcap.pcap_geterr(handle).decode(errors="replace")
            raise MemifValueError.argument("expression", expression, f"what pcap-filter(7) describes: {reason}")
        steps = [(step.code, step.jt, step.jf, step.k) for step in program.steps[: program.count]]
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    return steps


@cache
def _library() -> Any:
    name = ctypes.util.find_library("pcap") or "libpcap.so.0.8"
    try:
        pcap = ctypes.CDLL(name)
    except OSError as error:
        raise MemifError(
            f"a filter needs libpcap, which is not installed (Debian: apt-get install libpcap0.8): {error}"
        ) from error
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
    pcap.pcap_geterr.restype = ctypes.c_char_p
    pcap.pcap_geterr.argtypes = [ctypes.c_void_p]
    pcap.pcap_freecode.argtypes = [ctypes.c_void_p]
    pcap.pcap_freecode.restype = None
    pcap.pcap_close.argtypes = [ctypes.c_void_p]
    pcap.pcap_close.restype = None
    return pcap
