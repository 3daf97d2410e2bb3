"""TAP and TUN devices: the kernel's network stack as a packet port, for bridging a memif with it.

The device is created and used only through ``/dev/net/tun``. Setting address, MTU and link state needs pyroute2 (extra
``tap``). Packets are plain Ethernet frames ("tap") or IP packets ("tun"), without a packet information header and
without offloads. Reference: Documentation/networking/tuntap.rst of the kernel.
"""

import ctypes
import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final, Literal

from memif.config import each, one_of, whole, yes_or_no
from memif.errors import MemifClosedError, MemifOSError, MemifQueueError, MemifTypeError, MemifValueError
from memif.extras import with_advice
from memif.system import Closing

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing only: nothing to install

_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI = 0x0001, 0x0002, 0x0100, 0x1000
_IFREQ: Final = struct.Struct("16sH22x")
_CLONE_NEWNET: Final = 0x40000000
_MAX_PACKET: Final = 65535 + 18  # largest MTU, Ethernet header and one VLAN tag
_MAX_QUEUES: Final = 256  # the kernel's own limit
_GONE: Final = {errno.EIO: "the link is down, bring it up first", errno.EBADFD: "the interface was deleted"}


class TapError(MemifOSError):
    """The kernel refused an operation on a TAP device. `errno` is its number. The text is one line."""

    def __str__(self) -> str:
        return self.detail


class TapPermissionError(TapError, PermissionError):
    """The process lacks CAP_NET_ADMIN."""


def _error(error: OSError, what: str, hint: str = "") -> TapError:
    kind = TapPermissionError if error.errno in (errno.EPERM, errno.EACCES) else TapError
    text = hint or ("needs CAP_NET_ADMIN (run as root)" if kind is TapPermissionError else error.strerror or str(error))
    return kind(f"{what}: {text}", errno=error.errno)


class Tap(Closing):
    """A TAP device (Ethernet frames) or TUN device (IP packets). `close` removes it.

    The device starts with the link down and without address; see `set`. All calls are non-blocking: wait with select or
    poll on `fileno`. Different threads can use different queues, one thread for each queue.

    Args:
        name: Up to 15 bytes. None: the kernel chooses, see the attribute.
        mode: "tap" or "tun".
        netns: Network namespace in which the device is created: a name of ``ip netns``, or a path such as
            ``/proc/123/ns/net``. None for the process's own.
        queues: How many queues (descriptors), 1 to 256. The kernel spreads flows over them.

    Attributes:
        name: Name of the network interface.
        rejected: Packets that the kernel refused as malformed (runts; in mode "tun" anything but IP).

    Raises:
        TapPermissionError: when the process lacks CAP_NET_ADMIN.
        TapError: when the kernel has no TAP, or the name is in use.
    """

    name: str
    rejected: int

    def __init__(
        self,
        name: str | None = None,
        *,
        mode: Literal["tap", "tun"] = "tap",
        netns: str | os.PathLike[str] | None = None,
        queues: int = 1,
    ) -> None:
        self.mode: str = one_of("mode", mode, ("tap", "tun"))
        count = whole("queues", queues, 1, _MAX_QUEUES)
        self.rejected = 0
        self.netns: str | None = None if netns is None else _namespace_path(netns)
        self.name: str = f"{mode}%d" if name is None else _checked_name(name)
        self._fds: list[int] = []
        self._buffers = [memoryview(bytearray(_MAX_PACKET)) for _ in range(count)]
        try:
            _in_namespace(self.netns, self._create)
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        flags = _IFF_NO_PI | (_IFF_TAP if self.mode == "tap" else _IFF_TUN)
        if len(self._buffers) > 1:
            flags |= _IFF_MULTI_QUEUE
        for _ in self._buffers:
            self._fds.append(_open_device())
            try:
                answer = fcntl.ioctl(self._fds[-1], _TUNSETIFF, _IFREQ.pack(self.name.encode(), flags))
            except OSError as error:
                hints = {
                    errno.EBUSY: "the name is in use",
                    errno.EINVAL: "an interface of this name but another kind exists",
                }
                raise _error(error, f"make {self.name}", hints.get(error.errno or 0, "")) from error
            # The kernel replaces %d by a number. Later queues must join that device.
            self.name = _IFREQ.unpack(answer)[0].rstrip(b"\0").decode()

    def fileno(self, queue: int = 0) -> int:
        """Return the descriptor of a queue, readable when a packet waits. It stays owned by this object."""
        if not self._fds:
            raise MemifClosedError(f"{self.name} is closed")
        if not isinstance(queue, int):
            raise MemifTypeError.argument("queue", queue, f"a whole number from 0 to {len(self._fds) - 1}")
        if not 0 <= queue < len(self._fds):
            raise MemifQueueError(f"{self.name} has {len(self._fds)} queues, there is no queue {queue}")
        return self._fds[queue]

    def recv(self, count: int = 256, queue: int = 0) -> list[bytes]:
        """Return up to `count` packets that the kernel sent out of the interface, [] if none waits.

        Raises:
            TapError: when the interface was deleted.
        """
        fd = self.fileno(queue)
        whole("count", count, 0, sys.maxsize)
        buffer = self._buffers[queue]
        into = [buffer]
        packets: list[bytes] = []
        try:
            while len(packets) < count:
                packets.append(buffer[: os.readv(fd, into)].tobytes())
        except BlockingIOError:
            pass
        except OSError as error:
            if not packets:
                raise _error(error, f"receive from {self.name}", _GONE.get(error.errno or 0, "")) from error
        return packets

    def send(self, packets: "Iterable[Buffer]", queue: int = 0) -> int:
        """Hand packets to the kernel as if they had arrived on the interface.

        Args:
            packets: Bytes-like objects.
            queue: The queue to use.

        Returns:
            How many packets the kernel took, in order. Fewer than given when its queue is full. Malformed packets count
            as taken, and in `rejected`.

        Raises:
            TapError: when the link is down (errno EIO) or the interface was deleted, unless some were taken before.
        """
        fd, taken = self.fileno(queue), 0
        for packet in each("packets", packets):
            try:
                os.write(fd, packet)
            except BlockingIOError:
                break
            except TypeError:
                raise MemifTypeError.argument(f"packets[{taken}]", packet, "a bytes-like object") from None
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                    break
                if error.errno != errno.EINVAL:
                    if taken:
                        break
                    raise _error(error, f"send to {self.name}", _GONE.get(error.errno or 0, "")) from error
                self.rejected += 1
            taken += 1
        return taken

    def set(
        self,
        *,
        address: str | Sequence[str] | None = None,
        mtu: int | None = None,
        up: bool | None = None,
    ) -> None:
        """Set address, MTU and link state. Needs pyroute2.

        Args:
            address: One or several IPv4 or IPv6 addresses with prefix length ("192.0.2.1/24"); None for no change.
            mtu: Bytes, 68 to 65535; None for no change.
            up: Link state; None for no change.

        Raises:
            TapError: when pyroute2 is missing or the kernel refuses.
        """
        self.fileno()
        addresses = [] if address is None else _addresses(address)
        settings: dict[str, Any] = {} if mtu is None else {"mtu": whole("mtu", mtu, 68, 65535)}
        if up is not None:
            settings["state"] = "up" if yes_or_no("up", up) else "down"
        _in_namespace(self.netns, lambda: _configure(self.name, addresses, settings))

    def close(self) -> None:
        """Remove the device from the system. Can be repeated."""
        fds, self._fds = self._fds, []
        for fd in fds:
            with suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fds", None):
            self.close()


def _addresses(given: object) -> list[str]:
    texts = given if isinstance(given, (list, tuple)) else [given]
    for text in texts:
        try:
            ip_interface(text if isinstance(text, str) else "")  # it would take numbers for addresses
        except ValueError:
            raise MemifValueError.argument("address", text, "an IP address with prefix length, as text") from None
    return list(texts)


def _checked_name(name: object) -> str:
    raw = name.encode("utf-8", "replace") if isinstance(name, str) else b""
    if (
        not isinstance(name, str)
        or not 0 < len(raw) <= 15
        or name in (".", "..")
        or any(c in "/:%\0" or c.isspace() for c in name)
    ):
        raise MemifValueError.argument("name", name, "1 to 15 bytes without /, :, % and spaces")
    return name


def _open_device() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
        hint = "missing; load the kernel module tun (modprobe tun)" if missing else ""
        raise _error(error, f"open {_DEVICE}", hint) from error


def _namespace_path(netns: str | os.PathLike[str]) -> str:
    path = os.fspath(netns) if isinstance(netns, (str, os.PathLike)) else ""
    if not path or "\0" in path:
        raise MemifValueError.argument("netns", netns, "a name of `ip netns`, or a path")
    return path if "/" in path else f"/var/run/netns/{path}"


def _in_namespace(path: str | None, function: Callable[[], None]) -> None:
    """Run `function` in the network namespace `path`.

    On a thread of its own, because a thread that has moved to another namespace must not be used for anything else.
    """
    if path is None:
        function()
        return
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _enter_namespace(path)
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="memif-netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _enter_namespace(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _error(error, f"open network namespace {path}") from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise _error(OSError(number, os.strerror(number)), f"enter network namespace {path}")
    finally:
        os.close(fd)


def _configure(name: str, addresses: Sequence[str], settings: dict[str, Any]) -> None:
    try:
        with with_advice():
            from pyroute2 import IPRoute, NetlinkError
    except ImportError as error:
        raise TapError(f"configure {name}: {error}, or use the command ip") from None
    try:
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname=name)
            for text in addresses:
                interface = ip_interface(text)
                route.addr("replace", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
            if settings:
                route.link("set", index=index, **settings)
    except NetlinkError as error:
        raise _error(OSError(error.code, os.strerror(error.code)), f"configure {name}") from error
    except (OSError, ValueError) as error:
        raise TapError(f"configure {name}: {error}") from error
