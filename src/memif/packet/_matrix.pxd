# The rows of a burst and what classify said about them, for the loops of the compiled modules.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "words.h" nogil:
    uint64_t sum_of "memif_sum"(const uint8_t *data, int64_t n)
    uint16_t fold "memif_fold"(uint64_t total)
    uint16_t wire16 "memif_wire16"(uint16_t word)
    int32_t item32 "memif_item32"(const char *at)
    int64_t item64 "memif_item64"(const char *at)
    uint16_t item16 "memif_item16"(const char *at)
    uint16_t load16 "memif_load_be16"(const uint8_t *at)
    void store16 "memif_store_be16"(uint8_t *at, uint16_t number)

cdef enum:
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_IPV6 = 0x86DD
    MUCH = 1 << 16          # bytes from which on a loop lets go of the interpreter lock
    COLUMNS = 10
    UNKNOWN = -1


cdef class Rows:
    cdef Py_buffer view
    cdef bint held
    cdef object target      # the array whose rows are not contiguous, of which `array` is a copy
    cdef object array
    cdef uint8_t *base
    cdef Py_ssize_t stride
    cdef int64_t count
    cdef int64_t width
    cdef bint large

    cdef int write_back(self) except -1


cdef class Column:
    cdef Py_buffer view
    cdef bint held
    cdef char *base
    cdef Py_ssize_t stride


cdef Column column(str name, array, Py_ssize_t size, Py_ssize_t count, bint writable)


cdef struct Fields:
    const char *base[COLUMNS]
    Py_ssize_t stride[COLUMNS]
    int64_t width           # bytes of each row that the layers were found in


cdef class LayerColumns:
    cdef Py_buffer views[COLUMNS]
    cdef int held
    cdef Fields fields


# One packet, with nothing in it that leaves its row, whatever the arrays of the layers hold.
cdef struct Packet:
    uint8_t *row
    int64_t width
    int version             # 4 or 6; 0 when it is not valid IP
    int64_t l3              # offsets of layer 3 and 4
    int64_t l4
    int64_t l4_length       # as the IP header states it, maybe more than the row has
    uint8_t protocol
    uint8_t transport       # the protocol, when it is ICMP, UDP or TCP with its header in the row; else 0
    bint fragment
    bint options
    bint starts
    bint whole              # the row has all of layer 3
    int64_t routing


cdef void load(const Fields *fields, int64_t i, uint8_t *row, int64_t width, Packet *p) noexcept nogil
cdef int64_t final_destination(const Packet *p) noexcept nogil
