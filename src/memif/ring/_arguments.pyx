# cython: language_level=3, auto_pickle=False, autotestdict=False
"""Checks of what users pass in, and numpy, loaded by the first call that needs it and not by the import of
memif."""
from cpython.buffer cimport (PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
                             PyObject_CheckBuffer)
from cpython.exc cimport PyErr_Clear
from libc.stdint cimport int64_t, uint8_t, uint32_t

from memif.errors import MemifTypeError, MemifValueError

from memif.ring._clock cimport INT64_MAX
from memif.ring._columns cimport MAX_PACKET

cdef extern from *:
    """
    static int memif_failed(void) { return -1; }    /* lets Python code see the error that a call of C has set */
    """
    int memif_failed() except -1

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object value, void *overflow)      # the caller looks at the error
    int get_buffer "PyObject_GetBuffer"(object value, Py_buffer *view, int flags)
    double PyFloat_AsDouble(object value)
    void *PyErr_Occurred()

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


cdef int refuse(str name, value, str allowed) except -1:
    """After a call of C that has set an error: name the argument if it was of the wrong kind; other errors are
    those of the argument's own code."""
    try:
        memif_failed()
    except TypeError as error:
        raise MemifTypeError.argument(name, value, allowed) from error
    except (BufferError, ValueError, OverflowError) as error:
        raise MemifValueError.argument(name, f"{type(value).__name__} ({error})", allowed) from error


cdef int take_buffer(str name, value, Py_buffer *view, int flags, Py_ssize_t i=-1) except -1:
    """The buffer of an argument, or of its item `i`. Runs what code the argument brings: the caller keeps no
    pointer across this."""
    if get_buffer(value, view, flags) < 0:
        kind = "a writable buffer" if flags & PyBUF_WRITABLE else "a buffer"
        allowed = f"{kind} of bytes, such as a numpy array of uint8"
        if isinstance(value, str):
            allowed = "bytes; write text.encode()"
        refuse(name if i < 0 else f"{name}[{i}]", value, allowed)
    return 0


cdef Py_ssize_t number(str name, value, Py_ssize_t low, Py_ssize_t high) except -1:
    """An integer argument between `low` and `high`, which are not negative. MemifTypeError for another kind."""
    cdef Py_ssize_t n = PyNumber_AsSsize_t(value, NULL)      # clips what no machine word can hold
    if n < low or n > high:
        if n == -1 and PyErr_Occurred() != NULL:
            refuse(name, value, f"an integer from {low} to {high}")
        raise MemifValueError.argument(name, value, f"{low} to {high}")
    return n


cdef int64_t span_of(timeout) except -1:
    """Nanoseconds of a timeout in seconds; None is for ever: INT64_MAX."""
    if timeout is None:
        return INT64_MAX
    if timeout is ZERO:             # the usual case
        return 0
    cdef double seconds = PyFloat_AsDouble(timeout)
    if not 0 <= seconds:
        if seconds == -1 and PyErr_Occurred() != NULL:
            refuse("timeout", timeout, "None or a number of seconds from 0 on")
        raise MemifValueError.argument("timeout", timeout, "None or a number of seconds from 0 on")
    return INT64_MAX if seconds > 1e9 else <int64_t>(seconds * 1e9)


cdef bint are_words(const Py_buffer *view) noexcept:
    """Whether a buffer is one contiguous run of uint32."""
    return (view.ndim == 1 and view.itemsize == 4 and view.format != NULL and view.format[0] == b"I"
            and view.format[1] == 0 and (view.strides[0] == 4 or view.shape[0] <= 1))


cdef int take_lengths(lengths, uint32_t count, Py_buffer *view) except -1:
    """The buffer of `count` contiguous uint32. Other integers are converted."""
    if PyObject_CheckBuffer(lengths):
        if get_buffer(lengths, view, PyBUF_STRIDES | PyBUF_FORMAT) < 0:
            PyErr_Clear()
        elif are_words(view) and view.shape[0] == count:
            return 0
        else:
            PyBuffer_Release(view)
    return take_buffer("lengths", as_uint32(lengths, count), view, PyBUF_SIMPLE)


cdef int take_words(str name, value, Py_ssize_t least, Py_buffer *view) except -1:
    """The buffer of at least `least` contiguous uint32, to be written to."""
    take_buffer(name, value, view, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
    if not are_words(view) or view.shape[0] < least:
        got = f"{view.ndim} dimensions, items of {view.itemsize} bytes"
        if view.ndim == 1:
            got = f"shape ({view.shape[0]},), items of {view.itemsize} bytes"
        PyBuffer_Release(view)
        raise MemifValueError.argument(name, got, f"contiguous uint32, shape ({least},) or more")
    return 0


cdef object as_uint32(lengths, uint32_t count):
    """`lengths` as a contiguous array of `count` uint32; converted where it is another kind of integers."""
    load_numpy()
    import numpy
    try:
        array = numpy.asarray(lengths)
    except (TypeError, ValueError, OverflowError) as error:
        raise MemifValueError.argument("lengths", type(lengths).__name__, f"uint32, shape ({count},)") from error
    if array.dtype.kind not in "ui" or array.shape != (count,):
        if count or array.size:
            got = f"dtype {array.dtype}, shape {array.shape}" if array.dtype.kind in "uif" else lengths
            raise MemifValueError.argument("lengths", got, f"uint32, shape ({count},)")
        return numpy.empty(0, numpy.uint32)
    if array.dtype != numpy.uint32 and count and not 1 <= array.min() <= array.max() <= MAX_PACKET:
        raise MemifValueError.argument("lengths", f"{array.min()} to {array.max()}", f"1 to {MAX_PACKET}")
    return numpy.ascontiguousarray(array, dtype=numpy.uint32)


cdef int check_matrix(str name, Py_buffer *view, Py_ssize_t rows, Py_ssize_t least) except -1:
    """A two-dimensional array of bytes whose rows are contiguous, with at least `rows` rows of `least`
    bytes."""
    if (view.ndim != 2 or view.itemsize != 1
            or view.shape[0] and (view.shape[1] < 1 or view.strides[1] != 1 and view.shape[1] > 1)):
        shape = ()
        for k in range(view.ndim):
            shape += (view.shape[k],)
        raise MemifValueError.argument(name, f"shape {shape}, items of {view.itemsize} bytes",
                                       f"a uint8 matrix of 1 to {MAX_PACKET} contiguous bytes a row")
    if view.shape[0] < rows or view.shape[1] < least:
        raise MemifValueError.argument(name, f"shape ({view.shape[0]}, {view.shape[1]})",
                                       f"at least ({rows}, {least})")
    return 0


cdef int check_choice(str name, Py_buffer *choice, uint32_t packets) except -1:
    """One byte for each packet, one behind the other."""
    if (choice.ndim != 1 or choice.itemsize != 1 or choice.shape[0] != packets
            or choice.strides[0] != 1 and packets > 1):
        shape = ()
        for k in range(choice.ndim):
            shape += (choice.shape[k],)
        apart = f", {choice.strides[0]} apart" if choice.ndim == 1 else ""
        raise MemifValueError.argument(name, f"shape {shape}, items of {choice.itemsize} bytes{apart}",
                                       f"shape ({packets},), contiguous booleans of one byte")
    return 0


cdef list chosen_of(chosen, burst, uint32_t packets):
    """The numbers of the packets that `chosen` names: booleans, or an object that finds them in a burst."""
    cdef list numbers = []
    cdef Py_buffer choice
    cdef uint32_t i
    match = getattr(chosen, "match", None)
    take_buffer("chosen", chosen if match is None else match(burst), &choice, PyBUF_STRIDES)
    try:
        check_choice("chosen", &choice, packets)
        for i in range(packets):
            if (<const uint8_t *>choice.buf)[i]:
                numbers.append(i)
    finally:
        PyBuffer_Release(&choice)
    return numbers
