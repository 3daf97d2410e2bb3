"""A file on FUSE whose file system answers until it is open, then never again: to close it, or ask its size, hangs.

The file system is a child process with a mount of its own, which nobody else sees; the end of the process ends both the
mount and every wait for it. Needs /dev/fuse and the right to mount.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterator

_NEWNS, _PRIVATE = 0x20000, 0x4000 | 0x40000
_LOOKUP, _OPEN, _INIT = 1, 14, 26
_VALID = 3600  # seconds for which the kernel need not ask for the name again
_NODE = 2

#: struct fuse_attr and the others of linux/fuse.h.
_ATTRIBUTES = struct.pack("<6Q10I", _NODE, *[0] * 8, stat.S_IFREG | 0o666, 1, os.getuid(), os.getgid(), 0, 4096, 0)
_ANSWERS = {
    _INIT: struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, 1, *[0] * 10),
    _LOOKUP: struct.pack("<4Q2I", _NODE, 0, _VALID, 0, 0, 0) + _ATTRIBUTES,
    _OPEN: struct.pack("<Q2I", 1, 0, 0),
}


def serve(folder: str) -> Iterator[str]:
    """For a child process. Says "" once any name in `folder` is such a file, seen from the process; else why not."""
    try:
        device = _mount(folder)
    except OSError as error:
        yield f"no FUSE here: {error}"
        return
    yield ""
    while True:
        _, operation, unique = struct.unpack_from("<2IQ", os.read(device, 1 << 16))
        if operation in _ANSWERS:
            body = _ANSWERS[operation]
            os.write(device, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)


def _mount(folder: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    check(libc.unshare(_NEWNS), "unshare")
    check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None), "private mounts")
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    check(libc.mount(b"silent", os.fsencode(folder), b"fuse.silent", ctypes.c_ulong(0), options.encode()), "mount")
    return device
