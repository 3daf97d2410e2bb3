# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""Programs of the classic Berkeley packet filter, run over whole bursts.

A program is checked once, by the rules of the Linux kernel: jumps go forward and stay inside, so it ends; numbers of
memory slots are in range, and none is read before it was written. A packet of a burst may change while it is looked at,
because its sender can write there: each load is bounded by what the columns say, and takes its bytes once.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release
from cpython.bytes cimport PyBytes_AsString
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy

from memif.errors import MemifValueError

from memif.packet._matrix cimport Column, Rows, column, item32
from memif.ring._arguments cimport take_buffer
from memif.ring._burst cimport Burst
from memif.ring._columns cimport Columns, first_of, piece_of
from memif.ring._ring cimport Span
from memif.ring._rows cimport wash_packets

cdef enum:
    MOST = 4096             # instructions, as in the kernel
    SLOTS = 16              # words of memory that a program has
    SOME = 256              # packets from which on the interpreter lock is let go

# What the codes are called in the kernel's manual: class, then size or operation, then where the operand comes from.
cdef enum:
    LD_W_ABS = 0x20
    LD_H_ABS = 0x28
    LD_B_ABS = 0x30
    LD_W_IND = 0x40
    LD_H_IND = 0x48
    LD_B_IND = 0x50
    LD_IMM = 0x00
    LD_MEM = 0x60
    LD_LEN = 0x80
    LDX_IMM = 0x01
    LDX_MEM = 0x61
    LDX_LEN = 0x81
    LDX_MSH = 0xB1
    ST = 0x02
    STX = 0x03
    ADD_K = 0x04
    ADD_X = 0x0C
    SUB_K = 0x14
    SUB_X = 0x1C
    MUL_K = 0x24
    MUL_X = 0x2C
    DIV_K = 0x34
    DIV_X = 0x3C
    OR_K = 0x44
    OR_X = 0x4C
    AND_K = 0x54
    AND_X = 0x5C
    LSH_K = 0x64
    LSH_X = 0x6C
    RSH_K = 0x74
    RSH_X = 0x7C
    NEG = 0x84
    MOD_K = 0x94
    MOD_X = 0x9C
    XOR_K = 0xA4
    XOR_X = 0xAC
    JA = 0x05
    JEQ_K = 0x15
    JEQ_X = 0x1D
    JGT_K = 0x25
    JGT_X = 0x2D
    JGE_K = 0x35
    JGE_X = 0x3D
    JSET_K = 0x45
    JSET_X = 0x4D
    RET_K = 0x06
    RET_A = 0x16
    TAX = 0x07
    TXA = 0x87

cdef object empty = numpy.empty
cdef object BOOL = numpy.dtype(numpy.bool_)
_METADATA = 0xFFE00000      # from here on an offset means what the kernel knows of a packet, not its bytes
_CODES = frozenset((
    LD_W_ABS, LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND, LD_IMM, LD_MEM, LD_LEN, LDX_IMM, LDX_MEM, LDX_LEN,
    LDX_MSH, ST, STX, ADD_K, ADD_X, SUB_K, SUB_X, MUL_K, MUL_X, DIV_K, DIV_X, OR_K, OR_X, AND_K, AND_X, LSH_K, LSH_X,
    RSH_K, RSH_X, NEG, MOD_K, MOD_X, XOR_K, XOR_X, JA, JEQ_K, JEQ_X, JGT_K, JGT_X, JGE_K, JGE_X, JSET_K, JSET_X, RET_K,
    RET_A, TAX, TXA))
_LOADS = frozenset((LD_W_ABS, LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND, LDX_MSH))
_READS = frozenset((LD_MEM, LDX_MEM))
_WRITES = frozenset((ST, STX))
_BRANCHES = frozenset((JEQ_K, JEQ_X, JGT_K, JGT_X, JGE_K, JGE_X, JSET_K, JSET_X))


cdef struct Step:           # an instruction, as libpcap and the kernel lay it out
    uint16_t code
    uint8_t jt
    uint8_t jf
    uint32_t k


cdef struct Data:
    const uint8_t *base     # the first piece
    uint32_t near           # bytes of it
    uint32_t kept           # bytes that are there
    uint32_t length         # bytes on the wire
    const Columns *c        # a chained packet: its descriptors
    const Span *spans
    uint32_t first
    uint32_t end


def check(list steps) -> None:
    """Raise an error unless a program may run.

    Args:
        steps: Tuples (code, jt, jf, k) of numbers that fit into 16, 8, 8 and 32 bits.

    Raises:
        MemifValueError: It may not.
    """
    cdef int count = len(steps), i
    if not 1 <= count <= MOST:
        raise MemifValueError.argument("instructions", steps[:1], f"1 to {MOST} of them, got {count}")
    for i in range(count):
        allowed = _forbidden(count - i - 1, *steps[i])
        if allowed:
            raise MemifValueError.argument(f"instructions[{i}]", steps[i], allowed)
    if steps[count - 1][0] not in (RET_K, RET_A):
        raise MemifValueError.argument(f"instructions[{count - 1}]", steps[count - 1], "a return, as it is the last")
    _check_memory(steps)


def _forbidden(int rest, int code, int jt, int jf, object k):
    """What would be allowed in place of an instruction that is not, before `rest` others; "" if it is."""
    if code not in _CODES:
        return "codes of the classic packet filter"
    if code in (DIV_K, MOD_K) and k == 0:
        return "a divisor other than 0"
    if code in (LSH_K, RSH_K) and k >= 32:
        return "a shift by 0 to 31"
    if (code in _READS or code in _WRITES) and k >= SLOTS:
        return f"memory slots 0 to {SLOTS - 1}"
    if code == JA and k >= rest or code in _BRANCHES and max(jt, jf) >= rest:
        return f"a jump over at most {max(rest - 1, 0)} instructions"
    if code in _LOADS and k >= _METADATA:
        return "an offset in the packet: memif has no metadata that a socket of the kernel has"
    return ""


def _check_memory(list steps):
    """Refuse to read a slot of memory that not every way to the instruction has written."""
    cdef int i
    cdef uint32_t here = 0, step
    cdef list written = [0xFFFF] * len(steps)       # by instruction: the slots written on all ways that jump to it
    for i, (code, jt, jf, k) in enumerate(steps):
        here &= written[i]
        if code in _WRITES:
            here |= 1 << <int>k
        elif code in _READS and not here >> <int>k & 1:
            raise MemifValueError.argument(f"instructions[{i}]", steps[i], "memory that was written before")
        elif code == JA or code in _BRANCHES:
            for step in ((k,) if code == JA else (jt, jf)):
                written[i + 1 + step] &= here
            here = 0xFFFF


cdef uint32_t far_byte(const Data *p, uint64_t at) noexcept nogil:
    """One byte of a chained packet. The lengths can have become less meanwhile: 0 then."""
    cdef uint32_t d, n
    for d in range(p.first, p.end):
        n = piece_of(p.c, d)
        if at < n:
            return (p.spans[p.c.region[d]].base + p.c.offset[d])[at]
        at -= n
    return 0


cdef bint far_load(const Data *p, uint64_t at, uint32_t size, uint32_t *a) noexcept nogil:
    cdef uint32_t _k, value = 0
    if at + size > p.kept:
        return False
    for _k in range(size):
        value = value << 8 | far_byte(p, at)
        at += 1
    a[0] = value
    return True


cdef inline bint word(const Data *p, uint64_t at, uint32_t *a) noexcept nogil:
    cdef const uint8_t *b
    if at + 4 > p.near:
        return far_load(p, at, 4, a)
    b = p.base + at
    a[0] = <uint32_t>b[0] << 24 | <uint32_t>b[1] << 16 | <uint32_t>b[2] << 8 | b[3]
    return True


cdef inline bint half(const Data *p, uint64_t at, uint32_t *a) noexcept nogil:
    cdef const uint8_t *b
    if at + 2 > p.near:
        return far_load(p, at, 2, a)
    b = p.base + at
    a[0] = <uint32_t>b[0] << 8 | b[1]
    return True


cdef inline bint byte(const Data *p, uint64_t at, uint32_t *a) noexcept nogil:
    if at >= p.near:
        return far_load(p, at, 1, a)
    a[0] = p.base[at]
    return True


cdef uint32_t run(const Step *step, const Data *p) noexcept nogil:
    """What the program returns for a packet: 0 when it does not pass."""
    cdef uint32_t a = 0, x = 0, k
    cdef uint32_t[SLOTS] memory
    cdef uint16_t code
    while True:
        code = step.code
        k = step.k
        if code == LD_H_ABS:
            if not half(p, k, &a):
                return 0
        elif code == LD_B_ABS:
            if not byte(p, k, &a):
                return 0
        elif code == LD_W_ABS:
            if not word(p, k, &a):
                return 0
        elif code == JEQ_K:
            step += step.jt if a == k else step.jf
        elif code == JSET_K:
            step += step.jt if a & k else step.jf
        elif code == RET_K:
            return k
        elif code == LDX_MSH:
            if not byte(p, k, &x):
                return 0
            x = (x & 15) << 2
        elif code == LD_H_IND:
            if not half(p, <uint64_t>x + k, &a):
                return 0
        elif code == LD_B_IND:
            if not byte(p, <uint64_t>x + k, &a):
                return 0
        elif code == LD_W_IND:
            if not word(p, <uint64_t>x + k, &a):
                return 0
        elif code == JGT_K:
            step += step.jt if a > k else step.jf
        elif code == JGE_K:
            step += step.jt if a >= k else step.jf
        elif code == JA:
            step += k
        elif code == JEQ_X:
            step += step.jt if a == x else step.jf
        elif code == JGT_X:
            step += step.jt if a > x else step.jf
        elif code == JGE_X:
            step += step.jt if a >= x else step.jf
        elif code == JSET_X:
            step += step.jt if a & x else step.jf
        elif code == AND_K:
            a &= k
        elif code == LD_IMM:
            a = k
        elif code == LD_LEN:
            a = p.length
        elif code == LD_MEM:
            a = memory[k]
        elif code == LDX_IMM:
            x = k
        elif code == LDX_LEN:
            x = p.length
        elif code == LDX_MEM:
            x = memory[k]
        elif code == ST:
            memory[k] = a
        elif code == STX:
            memory[k] = x
        elif code == ADD_K:
            a += k
        elif code == ADD_X:
            a += x
        elif code == SUB_K:
            a -= k
        elif code == SUB_X:
            a -= x
        elif code == MUL_K:
            a *= k
        elif code == MUL_X:
            a *= x
        elif code == DIV_K:
            a //= k
        elif code == DIV_X:
            if x == 0:
                return 0
            a //= x
        elif code == MOD_K:
            a %= k
        elif code == MOD_X:
            if x == 0:
                return 0
            a %= x
        elif code == OR_K:
            a |= k
        elif code == OR_X:
            a |= x
        elif code == AND_X:
            a &= x
        elif code == XOR_K:
            a ^= k
        elif code == XOR_X:
            a ^= x
        elif code == LSH_K:
            a <<= k
        elif code == LSH_X:
            a = a << x if x < 32 else 0
        elif code == RSH_K:
            a >>= k
        elif code == RSH_X:
            a = a >> x if x < 32 else 0
        elif code == NEG:
            a = 0 - a
        elif code == TAX:
            x = a
        elif code == TXA:
            a = x
        elif code == RET_A:
            return a
        else:
            return 0
        step += 1


cdef void run_rows(const Step *steps, const uint8_t *base, Py_ssize_t stride, int64_t count, int64_t width,
                   const char *lengths, Py_ssize_t step, uint8_t *passed) noexcept nogil:
    cdef int64_t i
    cdef Data data
    data.c = NULL
    for i in range(count):
        data.base = base + i * stride
        data.length = <uint32_t>item32(lengths + i * step)
        data.near = data.kept = <uint32_t>min(data.length, width)
        passed[i] = run(steps, &data) != 0


cdef void run_burst(const Step *steps, const Columns *c, const Span *spans, uint8_t *passed) noexcept nogil:
    cdef uint32_t i, d
    cdef Data data
    data.c = c
    data.spans = spans
    for i in range(c.packets):
        data.first = first_of(c, i)
        data.end = first_of(c, i + 1)
        data.base = spans[c.region[data.first]].base + c.offset[data.first]
        data.near = data.kept = piece_of(c, data.first)
        for d in range(data.first + 1, data.end):
            data.kept += piece_of(c, d)
        data.length = data.kept
        passed[i] = run(steps, &data) != 0


@cython.final
cdef class Program:
    """A program that has been checked, to be run over packets. Any number of threads at a time.

    Args:
        steps: The instructions, as for `check`.
    """
    cdef bytes storage
    cdef const Step *steps

    def __cinit__(self, list steps):
        cdef Step step
        cdef list packed = []
        check(steps)
        for step.code, step.jt, step.jf, step.k in steps:
            packed.append((<char *>&step)[:sizeof(Step)])
        self.storage = b"".join(packed)
        self.steps = <const Step *>PyBytes_AsString(self.storage)

    def rows(self, matrix, lengths):
        """Run over the rows of a matrix that has been checked.

        Args:
            matrix: uint8, shape (n, width).
            lengths: uint32 or int32, shape (n,), not negative: bytes on the wire, which may be more than the width.

        Returns:
            bool, shape (n,): which packets pass.
        """
        cdef Rows rows = Rows(matrix)
        cdef Column sizes = column("lengths", lengths, 4, rows.count, False)
        passed = empty(rows.count, BOOL)
        cdef Column result = column("", passed, 1, rows.count, True)
        if rows.large:
            with nogil:
                run_rows(self.steps, rows.base, rows.stride, rows.count, rows.width, sizes.base, sizes.stride,
                         <uint8_t *>result.base)
        else:
            run_rows(self.steps, rows.base, rows.stride, rows.count, rows.width, sizes.base, sizes.stride,
                     <uint8_t *>result.base)
        return passed

    def packets(self, list packets, lengths):
        """Run over single packets.

        Args:
            packets: Bytes-like objects.
            lengths: As for `rows`; None for those of the packets.

        Returns:
            bool, shape (n,): which packets pass.

        Raises:
            MemifTypeError: One of them is not bytes-like.
        """
        cdef Py_ssize_t count = len(packets), i
        cdef Column sizes = None if lengths is None else column("lengths", lengths, 4, count, False)
        passed = empty(count, BOOL)
        cdef Column result = column("", passed, 1, count, True)
        cdef Py_buffer one
        cdef Data data
        data.c = NULL
        for i in range(count):
            packet = packets[i] if i < len(packets) else b""        # the buffer of another can have changed the list
            take_buffer("packets", packet, &one, PyBUF_SIMPLE, i)
            data.base = <const uint8_t *>one.buf
            data.length = data.near = <uint32_t>min(one.len, 0xFFFFFFFF)
            if sizes is not None:
                data.length = <uint32_t>item32(sizes.base + i * sizes.stride)
                data.near = min(data.near, data.length)
            data.kept = data.near
            (<uint8_t *>result.base)[i] = run(self.steps, &data) != 0
            PyBuffer_Release(&one)
        return passed

    def burst(self, Burst burst):
        """Run over the packets of a burst, where they are.

        Returns:
            bool, shape (n,): which packets pass.

        Raises:
            MemifStateError: The burst was released.
            MemifValueError: One of its `lengths` is wrong.
        """
        cdef Py_ssize_t count = len(burst)
        passed = empty(count, BOOL)
        cdef Column result = column("", passed, 1, count, True)
        burst.check()                           # what ran meanwhile can have released it
        if count == 0 or burst.c == NULL or burst.c.packets != count:
            return passed[:0]
        burst.check_lengths()
        if burst.tx is not None:
            wash_packets(burst.ring, burst.c)
        burst.busy += 1
        if count >= SOME:
            with nogil:
                run_burst(self.steps, burst.c, burst.ring.spans, <uint8_t *>result.base)
        else:
            run_burst(self.steps, burst.c, burst.ring.spans, <uint8_t *>result.base)
        burst.busy -= 1
        return passed

    def __reduce__(self):
        raise TypeError("a Program cannot be pickled or copied: copy the Filter that has it")
