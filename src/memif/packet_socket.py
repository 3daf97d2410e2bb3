"""AF_PACKET: an existing network interface as a packet port, for bridging a memif with it.

Sends and receives whole Ethernet frames on the interface, beside the kernel's own network stack, which goes on using
it. Needs CAP_NET_RAW. Reference: packet(7).

The kernel leaves work to the network card, which is done here: VLAN tags arrive separate from the frame and are put
back, and checksums that were left to the card are filled in. Large packets are not segmented: switch offloads off on
the interface (``ethtool -K IFNAME tso off gso off gro off``) unless the other side takes packets of 64 KB.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from memif.config import each, whole, yes_or_no
from memif.errors import MemifClosedError, MemifOSError, MemifTypeError, MemifValueError
from memif.system import Closing

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing only: nothing to install

_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_ADD_MEMBERSHIP, _AUXDATA, _IGNORE_OUTGOING = 1, 8, 23
_MR_PROMISC: Final = 1
_VLAN_VALID, _CSUM_NOT_READY, _TPID_VALID = 0x10, 0x08, 0x40
#: status, length, kept, link header, network header, VLAN tag, its EtherType
_AUX: Final = struct.Struct("=IIIHHHH")
_MAX_FRAME: Final = 65536 + 18
_GONE: Final = {errno.ENETDOWN: "the link is down", errno.ENXIO: "the interface is gone"}
_TOO_LATE: Final = (errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM)


class PacketError(MemifOSError):
    """The kernel refused an operation on a packet socket. `errno` is its number. The text is one line."""

    def __str__(self) -> str:
        return self.detail


class PacketPermissionError(PacketError, PermissionError):
    """The process lacks CAP_NET_RAW."""


def _error(error: OSError, what: str) -> PacketError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return PacketPermissionError(f"{what}: needs CAP_NET_RAW (run as root)", errno=error.errno)
    return PacketError(f"{what}: {_GONE.get(error.errno or 0) or error.strerror or error}", errno=error.errno)


class PacketSocket(Closing):
    """Sends and receives all frames of a network interface. Also a context manager.

    All calls are non-blocking: wait with select or poll on `fileno`. One thread at a time.

    Args:
        name: The network interface.
        promiscuous: Receive frames for other MAC addresses too.

    Attributes:
        rejected: Frames that the kernel would not send: too long for the interface, or malformed.

    Raises:
        PacketPermissionError: when the process lacks CAP_NET_RAW.
        PacketError: when there is no such interface.
    """

    def __init__(self, name: str, *, promiscuous: bool = True) -> None:
        self.name = name
        self.rejected: int = 0
        self._down = False  # when last seen
        yes_or_no("promiscuous", promiscuous)
        if not isinstance(name, str) or not 0 < len(os.fsencode(name)) <= 15 or "\0" in name:
            raise MemifValueError.argument("name", name, "1 to 15 bytes")
        try:
            self._index = socket.if_nametoindex(name)
        except OSError as error:
            raise PacketError(f"network interface {name}: no such interface", errno=error.errno) from error
        try:
            # Nothing may arrive from other interfaces before bind has chosen one: protocol 0 first.
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._sock: socket.socket | None = socket.socket(socket.AF_PACKET, kind, 0)
        except OSError as error:
            raise _error(error, f"open network interface {name}") from error
        try:
            self._set_up(promiscuous)
        except OSError as error:
            self.close()
            raise _error(error, f"open network interface {name}") from error
        self._buffer = memoryview(bytearray(_MAX_FRAME))

    def _set_up(self, promiscuous: bool) -> None:
        sock = self._open()
        sock.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        if promiscuous:
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=iHH8s", self._index, _MR_PROMISC, 0, b""))
        sock.bind((self.name, _ETH_P_ALL))

    def _open(self) -> socket.socket:
        if self._sock is None:
            raise MemifClosedError(f"{self.name} is closed")
        return self._sock

    def fileno(self) -> int:
        """Return the descriptor, readable when a frame waits."""
        return self._open().fileno()

    def recv(self, count: int = 256) -> list[bytes]:
        """Return up to `count` frames that arrived on the interface, [] if none waits.

        Raises:
            PacketError: once when the link has gone down (errno ENETDOWN), and when the interface is gone (ENXIO).
        """
        sock, buffer = self._open(), self._buffer
        whole("count", count, 0, sys.maxsize)
        frames: list[bytes] = []
        unfinished: list[int] = []
        try:
            while len(frames) < count:
                size, ancillary, _, _ = sock.recvmsg_into([buffer], 64)
                status, tag = _auxiliary(ancillary)
                if status & _CSUM_NOT_READY:
                    unfinished.append(len(frames))
                frames.append(bytes(buffer[:12]) + tag + bytes(buffer[12:size]))
        except BlockingIOError:
            pass
        except OSError as error:
            self._down = error.errno == errno.ENETDOWN
            if not frames:
                raise _error(error, f"receive from {self.name}") from error
        if self._down and not frames:
            self._check()  # the kernel does not report the end of an interface that was down before
        if unfinished:
            _finish(frames, unfinished)
        return frames

    def send(self, frames: "Iterable[Buffer]") -> int:
        """Send frames.

        Args:
            frames: Bytes-like objects.

        Returns:
            How many frames the kernel took, in order. Fewer than given when its queue is full. Frames that it never
            takes (longer than the MTU) count as taken, and in `rejected`.

        Raises:
            PacketError: when the link is down (errno ENETDOWN) or the interface is gone (ENXIO), unless some were taken
                before.
        """
        sock, taken = self._open(), 0
        for frame in each("frames", frames):
            try:
                sock.send(frame)
            except TypeError:
                raise MemifTypeError.argument(f"frames[{taken}]", frame, "a bytes-like object") from None
            except OSError as error:
                if error.errno in _TOO_LATE:
                    break
                if error.errno not in (errno.EMSGSIZE, errno.EINVAL):
                    self._down = error.errno == errno.ENETDOWN
                    if taken:
                        break
                    raise _error(error, f"send to {self.name}") from error
                self.rejected += 1
            else:
                self._down = False
            taken += 1
        return taken

    def _check(self) -> None:
        try:
            socket.if_indextoname(self._index)
        except OSError as error:
            raise _error(error, f"network interface {self.name}") from error

    def close(self) -> None:
        """Close the socket. Can be repeated."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


def _auxiliary(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, bytes]:
    """Return the status bits, and the VLAN tag that the kernel took out, as bytes."""
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _AUXDATA and len(data) >= _AUX.size:
            status, _, _, _, _, tag, ethertype = _AUX.unpack_from(data)
            if status & _VLAN_VALID:
                return status, struct.pack(">HH", ethertype if status & _TPID_VALID else 0x8100, tag)
            return status, b""
    return 0, b""


def _finish(frames: list[bytes], rows: list[int]) -> None:
    """Fill in the checksums of frames that have not passed a network card."""
    import numpy as np

    from memif.packet import classify, fill_l4

    lengths = np.array([len(frames[i]) for i in rows], np.uint32)
    matrix = np.zeros((len(rows), int(lengths.max())), np.uint8)
    for row, i in zip(matrix, rows, strict=True):
        row[: len(frames[i])] = np.frombuffer(frames[i], np.uint8)
    fill_l4(matrix, classify(matrix, lengths))
    for row, i, length in zip(matrix, rows, lengths.tolist(), strict=True):
        frames[i] = row[:length].tobytes()
