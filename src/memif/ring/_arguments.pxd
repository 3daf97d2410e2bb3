from libc.stdint cimport int64_t, uint32_t

cdef class Numpy:
    cdef object array           # numpy.ndarray
    cdef object empty
    cdef object frombuffer
    cdef object uint8
    cdef object uint16
    cdef object uint32

cdef Numpy load_numpy()
cdef int take_buffer(str name, value, Py_buffer *view, int flags, Py_ssize_t i=*) except -1
cdef Py_ssize_t number(str name, value, Py_ssize_t low, Py_ssize_t high) except -1
cdef int64_t span_of(timeout) except -1
cdef int take_lengths(lengths, uint32_t count, Py_buffer *view) except -1
cdef int take_words(str name, value, Py_ssize_t least, Py_buffer *view) except -1
cdef int check_matrix(str name, Py_buffer *view, Py_ssize_t rows, Py_ssize_t least) except -1
cdef int check_choice(str name, Py_buffer *choice, uint32_t packets) except -1
cdef list chosen_of(chosen, burst, uint32_t packets)
