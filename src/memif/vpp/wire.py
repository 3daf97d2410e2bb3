"""VPP's API socket: how messages travel, and how their numbers are found.

The socket is a stream. Each message has a header of 16 bytes, ``>QII``: 0, the message's length, 0. All numbers are in
network byte order. A request begins with its number, our client index and a context (``>HII``), its reply with its
number, the same context and a return value (``>HIi``). Their fields follow without gaps.

Numbers differ from one VPP to the next. Only the first request has a fixed one: 15 says who we are. Its reply, 16,
brings our client index and a table from names to numbers. A name there ends with a checksum of the message's layout, so
a request that is there under a name known here is known byte by byte. This reply has the table since VPP 18.10.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from memif.config import Deadline, seconds
from memif.errors import ErrorCode, MemifClosedError, MemifError, MemifTimeoutError, MemifValueError, from_os_error
from memif.system import Closing

#: Where VPP's API listens, unless its ``startup.conf`` says otherwise.
API_SOCKET: Final = "/run/vpp/api.sock"
#: VPP's version; its reply also marks the end of a dump, which has no reply.
VERSION: Final = "show_version_51077d14"

_HEADER, _ENTRY, _TABLE = struct.Struct(">QII"), struct.Struct(">H64s"), struct.Struct(">HIIiIH")
_REQUEST, _HEAD, _REPLY = struct.Struct(">HII"), struct.Struct(">HI"), struct.Struct(">HIi")
_HELLO, _HELLO_REPLY = 15, 16
_MOST_BYTES: Final = 1 << 24  # of one message
_MOST_DETAILS: Final = 1 << 16


class VppError(MemifError):
    """VPP refused something, or what listens there is no VPP.

    Args:
        detail: What happened.
        retval: VPP's return value.
        code: Replaces the usual code of the class.
    """

    default_code = ErrorCode.INVAL_ARG

    #: VPP's return value; 0 where it said so in words only.
    retval: int

    def __init__(self, detail: str = "", retval: int = 0, *, code: ErrorCode | None = None) -> None:
        super().__init__(detail, code=code)
        self.retval = retval


class Connection(Closing):
    """A connection to the API socket. One thread."""

    def __init__(self, path: str | os.PathLike[str] = API_SOCKET, *, timeout: float = 5.0) -> None:
        self.path: str = os.fspath(path)
        self._timeout = seconds("timeout", timeout, none=False) or 0.0
        if not self._timeout:
            raise MemifValueError.argument("timeout", timeout, "more than 0 seconds")
        self._context, self._buffer, self._client = 0, b"", 0
        #: The table, by name with and without the checksum.
        self.numbers: dict[str, int] = {}
        self._deadline = Deadline(timeout)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with self._translated():
                self._sock.settimeout(timeout)
                self._sock.connect(self.path)
            self._say_hello()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what was made in VPP stays. A second call does nothing."""
        self._sock.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise MemifTimeoutError(f"VPP's API at {self.path} did not answer within {self._timeout:g} s") from error
        except OSError as error:
            raise from_os_error(error, f"VPP's API at {self.path}") from error

    def _send(self, message: bytes) -> None:
        if self._sock.fileno() < 0:
            raise MemifClosedError(f"the connection to VPP's API at {self.path} is closed")
        self._deadline = Deadline(self._timeout)
        with self._translated():
            self._sock.settimeout(self._timeout)
            try:
                self._sock.sendall(_HEADER.pack(0, len(message), 0) + message)
            except OSError:
                self.close()  # half a message may be there: nothing can follow it
                raise

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            with self._translated():
                if (left := self._deadline.left(self._timeout)) <= 0:
                    raise TimeoutError
                self._sock.settimeout(left)
                data = self._sock.recv(1 << 16)
            if not data:
                self.close()
                raise VppError(f"VPP has closed the connection to {self.path}", code=ErrorCode.DISCONNECTED)
            self._buffer += data

    def _receive(self) -> bytes:
        self._fill(_HEADER.size)
        size = _HEADER.size + int(_HEADER.unpack_from(self._buffer)[1])
        if not _HEADER.size + _HEAD.size <= size <= _MOST_BYTES:
            self.close()
            raise VppError(f"{self.path} is not VPP's API: it sends a message of {size - _HEADER.size} bytes")
        self._fill(size)
        message, self._buffer = self._buffer[_HEADER.size : size], self._buffer[size:]
        return message

    def _say_hello(self) -> None:
        self._send(struct.pack(">HI64s", _HELLO, 1, b"memif for Python"))
        reply = self._receive()
        fields = _TABLE.unpack_from(reply) if len(reply) >= _TABLE.size else (0,)
        if fields[0] != _HELLO_REPLY or len(reply) != _TABLE.size + fields[-1] * _ENTRY.size or fields[3] < 0:
            raise VppError(f"{self.path} is not the API of a VPP from 18.10 on")
        self._client = fields[4]
        for number, raw in _ENTRY.iter_unpack(reply[_TABLE.size :]):
            name = raw.partition(b"\0")[0].decode(errors="replace")
            # Replies are found without their checksum: what is read of them never changed.
            self.numbers[name] = self.numbers[name.rpartition("_")[0]] = number

    def ask(self, name: str, fields: bytes = b"", details: str = "") -> tuple[int, bytes, list[bytes]]:
        """Send a request; return the reply's value and what follows it, and the details that came before."""
        self._context += 1
        self._send(_REQUEST.pack(self.numbers[name], self._client, self._context) + fields)
        if details:  # a dump has no reply: the one to another request marks its end
            name = VERSION
            self._send(_REQUEST.pack(self.numbers[name], self._client, self._context))
        found: list[bytes] = []
        while True:
            message = self._receive()
            number, context = _HEAD.unpack_from(message)
            if context != self._context:
                continue  # to a request that was given up, or news that nobody asked for
            if number == self.numbers.get(details):
                found.append(message[_HEAD.size :])
                if len(found) > _MOST_DETAILS:
                    self.close()
                    raise VppError(f"{self.path} answers without end")
            elif number == self.numbers.get(name.rpartition("_")[0] + "_reply") and len(message) >= _REPLY.size:
                return _REPLY.unpack_from(message)[2], message[_REPLY.size :], found
