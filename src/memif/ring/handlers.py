"""Compiled functions that handle packets, for `RxQueue.serve`: their C signature, and the address of one."""

from typing import Any

from memif.errors import MemifTypeError

#: The signature of a handler for `RxQueue.serve`, in the words of ``numba.cfunc``: addresses of the packets, their
#: lengths, their number, the user's data. In C: ``int32_t handler(uint8_t **, uint32_t *, uint32_t, void *)``.
HANDLER_SIGNATURE: str = "int32(CPointer(CPointer(uint8)), CPointer(uint32), uint32, voidptr)"

_ALLOWED = "a function pointer of ctypes, or a function compiled by numba.cfunc(memif.HANDLER_SIGNATURE)"


def address_of(handler: Any) -> int:
    """Return the address of a compiled handler.

    Args:
        handler: A function pointer of ctypes, or anything that has one as its attribute ``ctypes``, as numba's
            functions have.

    Returns:
        The address. It is valid as long as the handler lives.

    Raises:
        MemifTypeError: It is neither, or takes or returns other types.
    """
    import ctypes
    from _ctypes import CFuncPtr

    function = getattr(handler, "ctypes", handler)
    if not isinstance(function, CFuncPtr):
        raise MemifTypeError.argument("handler", handler, _ALLOWED)
    types: Any = (
        ctypes.POINTER(ctypes.POINTER(ctypes.c_uint8)),
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.c_uint32,
        ctypes.c_void_p,
    )
    # A function of a library, whose types nobody has told ctypes, is taken at its word, as by every call of ctypes.
    given = getattr(function, "argtypes", None)
    if (given is not None and tuple(given) != types) or function.restype is not ctypes.c_int32:
        names = ", ".join(each.__name__ for each in given or types)
        result = getattr(function.restype, "__name__", function.restype)
        raise MemifTypeError.argument(
            "handler", f"({names}) -> {result}", f"({', '.join(each.__name__ for each in types)}) -> c_int"
        )
    return ctypes.c_void_p.from_buffer(function).value or 0
