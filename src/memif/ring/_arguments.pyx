# cython: language_level=3, auto_pickle=False, autotestdict=False
"""Checks of what users pass in, and numpy, loaded by the first call that needs it and not by the import of
memif."""
from libc.stdint cimport int64_t, uint32_t

from memif.errors import MemifValueError

from memif.ring._columns cimport MAX_PACKET

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object value, void *overflow) except? -1

cdef object ZERO = 0
cdef Numpy loaded = None


cdef class Numpy:
    """What is used of numpy."""


cdef Numpy load_numpy():
    """numpy; ImportError with advice when it is not installed."""
    global loaded
    cdef Numpy parts
    if loaded is not None:
        return loaded
    try:
        import numpy
    except ImportError as error:
        raise ImportError("this needs numpy: pip install 'memif[numpy]'") from error
    parts = Numpy()
    parts.array = numpy.ndarray
    parts.empty = numpy.empty
    parts.frombuffer = numpy.frombuffer
    parts.uint8 = numpy.dtype("u1")
    parts.uint16 = numpy.dtype("u2")
    parts.uint32 = numpy.dtype("u4")
    loaded = parts
    return parts


cdef Py_ssize_t number(str name, value, Py_ssize_t low, Py_ssize_t high) except -1:
    """An integer argument between `low` and `high`, which are not negative. TypeError for what is no
    integer."""
    cdef Py_ssize_t n = PyNumber_AsSsize_t(value, NULL)      # clips what no machine word can hold
    if n < low or n > high:
        raise MemifValueError.argument(name, value, f"{low} to {high}")
    return n


cdef int64_t span_of(timeout) except -1:
    """Nanoseconds of a timeout in seconds; None is for ever: INT64_MAX."""
    if timeout is None:
        return INT64_MAX
    if timeout is ZERO:             # the usual case
        return 0
    cdef double seconds = timeout
    if not 0 <= seconds:
        raise MemifValueError.argument("timeout", timeout, "None or a number of seconds from 0 on")
    return INT64_MAX if seconds > 1e9 else <int64_t>(seconds * 1e9)


cdef object as_uint32(lengths, uint32_t count):
    """`lengths` as a contiguous array of `count` uint32; converted where it is another kind of integers."""
    load_numpy()
    import numpy
    array = numpy.asarray(lengths)
    if array.dtype.kind not in "ui" or array.shape != (count,):
        if count or array.size:
            raise MemifValueError.argument("lengths", f"dtype {array.dtype}, shape {array.shape}",
                                           f"uint32, shape ({count},)")
        return numpy.empty(0, numpy.uint32)
    if array.dtype != numpy.uint32 and count and not 1 <= array.min() <= array.max() <= MAX_PACKET:
        raise MemifValueError.argument("lengths", f"{array.min()} to {array.max()}", f"1 to {MAX_PACKET}")
    return numpy.ascontiguousarray(array, dtype=numpy.uint32)


cdef int check_matrix(str name, Py_buffer *view, Py_ssize_t rows, Py_ssize_t least) except -1:
    """A two-dimensional array of bytes whose rows are contiguous, with at least `rows` rows of `least`
    bytes."""
    if (view.ndim != 2 or view.itemsize != 1
            or view.shape[0] and (view.shape[1] < 1 or view.strides[1] != 1 and view.shape[1] > 1)):
        sizes = []                                  # no comprehension: it gives back twice when memory is out
        for k in range(view.ndim):
            sizes.append(view.shape[k])
        shape = tuple(sizes)
        raise MemifValueError.argument(name, f"shape {shape}, items of {view.itemsize} bytes",
                                       f"a uint8 matrix of 1 to {MAX_PACKET} contiguous bytes a row")
    if view.shape[0] < rows or view.shape[1] < least:
        raise MemifValueError.argument(name, f"shape ({view.shape[0]}, {view.shape[1]})",
                                       f"at least ({rows}, {least})")
    return 0
