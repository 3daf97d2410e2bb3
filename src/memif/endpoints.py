"""`connect` and `listen`: one interface on a socket of its own, opened in one call."""

from typing import Unpack

from memif.address import SocketName
from memif.config import Options, check_mode, check_owner, seconds
from memif.interface import Interface
from memif.socket import DEFAULT_APP_NAME, Socket


def connect(
    path: SocketName | None = None,
    *,
    timeout: float | None = 5.0,
    app_name: str = DEFAULT_APP_NAME,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface, slave unless `role` says otherwise, and wait until the link is up.

    path is the control socket (see `Socket`), timeout is in seconds (None: for ever), all other options are those of
    `Socket.interface`. While nobody listens the attempt is repeated until the time is over; with ``reconnect=None``
    there is one attempt. The interface owns its socket: closing it closes both.

    Raises `MemifTimeoutError` when the link did not come up in time, `MemifRefusedError` when the peer refuses for good
    (secret, mode), `MemifPermissionError`, `MemifValueError`.
    """
    seconds("timeout", timeout)
    options.setdefault("role", "slave")
    socket = Socket(path, app_name=app_name, handshake_timeout=handshake_timeout)
    try:
        interface = socket.only_interface(**options)
        interface.start_once()
        interface.wait_up(timeout)
    except BaseException:
        socket.close()
        raise
    return interface


def listen(
    path: SocketName | None = None,
    *,
    app_name: str = DEFAULT_APP_NAME,
    socket_mode: int | None = 0o600,
    socket_owner: tuple[int, int] | None = None,
    handshake_timeout: float = 5.0,
    **options: Unpack[Options],
) -> Interface:
    """Open an interface as master and return at once; clients may connect from then on, see `Interface.wait_up`.

    path is the control socket; its directory must exist, a socket file that a dead program left is replaced. The file
    gets `socket_mode` (0o600: only this user) and `socket_owner` (user id, group id). All other options are those of
    `Socket.interface`. The interface owns its socket: closing it closes both.

    Raises `MemifOSError` (errno EADDRINUSE) when somebody listens there already, `MemifFileNotFoundError` without the
    directory, `MemifPermissionError`, `MemifValueError`.
    """
    options.setdefault("role", "master")
    check_file(socket_mode, socket_owner)
    socket = Socket(path, app_name=app_name, mode=socket_mode, owner=socket_owner, handshake_timeout=handshake_timeout)
    try:
        return socket.only_interface(**options)
    except BaseException:
        socket.close()
        raise


def check_file(socket_mode: object, socket_owner: object) -> None:
    """Check what `listen` gives to the socket, which has other names for it: the interface has a mode of its own."""
    check_mode("socket_mode", socket_mode)
    check_owner("socket_owner", socket_owner)
