"""The stand-in's API socket: header, table, the nine requests, each message recorded as it came."""

import contextlib
import ipaddress
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from vpp.commands import run
from vpp.standin import VERSION, Face, Refused, StandIn

#: Requests with their checksums; VPP 21.06 has those without v2.
NEWEST = {
    "memif_socket_filename_add_del_v2": "34223bdf",
    "memif_create_v2": "8c7de5f7",
}
SINCE_21 = {
    "memif_socket_filename_add_del": "a2ce1a10",
    "memif_create": "b1b25061",
    "memif_delete": "f9e6675e",
    "memif_dump": "51077d14",
    "memif_details": "da34feb9",
    "show_version": "51077d14",
    "control_ping": "51077d14",
    "sw_interface_set_flags": "f5aec1b8",
    "sw_interface_add_del_address": "5463d73b",
    "sw_interface_set_mtu": "5cbe85e5",
}
REPLIES = {
    "memif_socket_filename_add_del_v2_reply": "9f29bdb9",
    "memif_create_v2_reply": "5383d31f",
    "memif_create_reply": "5383d31f",
    "show_version_reply": "c919bde1",
    "control_ping_reply": "f6b0b8ca",
    "cli_inband_reply": "05879051",
    "sockclnt_delete_reply": "8f38b1ee",
    **{
        f"{name}_reply": "e8d4e804"
        for name in (
            "memif_socket_filename_add_del",
            "memif_delete",
            "sw_interface_set_flags",
            "sw_interface_add_del_address",
            "sw_interface_set_mtu",
        )
    },
}
#: Bytes behind the return value, which are there in a refusal too.
_REST = {"memif_create": 4, "memif_create_v2": 4, "memif_socket_filename_add_del_v2": 4}


def table(form: str = "new") -> dict[str, int]:
    """Names and numbers of a VPP: "new" (23.06 on), "21" (21.06 to 22), "old" (before: its layouts are others)."""
    names = {"cli_inband": "f8377302" if form != "old" else "b1ad59b3", **REPLIES, "sockclnt_delete": "8ac76db6"}
    if form == "old":
        names |= dict.fromkeys(SINCE_21, "0123abcd")
    else:
        names |= SINCE_21 | (NEWEST if form == "new" else {})
    # In no order, as VPP's hash gives them.
    return {
        f"{name}_{crc}": 20 + 3 * n for n, (name, crc) in enumerate(sorted(names.items(), key=lambda x: x[1] + x[0]))
    }


class ApiServer:
    """Serves the API of `vpp` at `path`, in a thread of its own, together with the stand-in's links.

    `mangle`: what is done to each reply, header included, before it is sent. `received`: each message after its header,
    in order. `mute`: requests without an answer. `news`: send a message that nobody asked for before each reply.
    """

    def __init__(self, path: str, vpp: StandIn, form: str = "new") -> None:
        self.vpp, self.table = vpp, table(form)
        self.names = {number: name for name, number in self.table.items()}
        self.received: list[bytes] = []
        self.mute: set[str] = set()
        self.news = False
        self.mangle: Callable[[bytes], bytes] = bytes
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # as VPP does, after a crash
        self._listener.bind(path)
        self._listener.listen()
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vpp", daemon=True)

    def __enter__(self) -> "ApiServer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all memifs."""
        self._stop.set()
        self._thread.join()
        clients, self._clients = self._clients, {}
        for sock, _ in clients.values():
            sock.close()
        self._listener.close()
        self.vpp.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            moved = self.vpp.turn()
            fds = [self._listener, *(sock for sock, _ in self._clients.values())]
            for ready in select.select(fds, [], [], 0 if moved else 0.002)[0]:
                if ready is self._listener:
                    sock, _ = ready.accept()
                    self._clients[sock.fileno()] = sock, bytearray()
                else:
                    self._read(*self._clients[ready.fileno()])

    def _read(self, sock: socket.socket, buffer: bytearray) -> None:
        fd = sock.fileno()
        try:
            data = sock.recv(4096)
        except ConnectionResetError:
            data = b""
        buffer += data
        while len(buffer) >= 16 and len(buffer) >= 16 + (size := struct.unpack_from(">QII", buffer)[1]):
            message = bytes(buffer[16 : 16 + size])
            del buffer[: 16 + size]
            self.received.append(message)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for reply in self._answers(message):
                    sock.sendall(self.mangle(struct.pack(">QII", 0, len(reply), 0) + reply))
        if not data:
            del self._clients[fd]
            sock.close()

    def _answers(self, message: bytes) -> Iterator[bytes]:
        number, client, context = struct.unpack_from(">HII", message)
        if number == 15:
            rows = b"".join(struct.pack(">H64s", n, name.encode()) for name, n in self.table.items())
            yield struct.pack(">HIIiIH", 16, 0, client, 0, 0x01000000, len(self.table)) + rows
            return
        name = self.names[number].rpartition("_")[0]
        if self.news:  # the keepalive of idle clients
            yield struct.pack(">HII", 19, client, 0)
        if name in self.mute:
            return
        fields, retval, rest = message[10:], 0, b""
        if name == "memif_dump":
            for face in self.vpp.faces.values():
                yield struct.pack(">HI", self._number("memif_details"), context) + self._details(face)
            return
        try:
            rest = getattr(self, f"_{name}")(fields) or b""
        except Refused as error:
            retval, rest = error.retval, bytes(_REST.get(name, 0))
        if name == "cli_inband":
            retval, rest = struct.unpack(">i", rest[:4])[0], rest[4:]
        yield struct.pack(">HIi", self._number(name + "_reply"), context, retval) + rest

    def _number(self, name: str) -> int:
        return next(number for full, number in self.table.items() if full.rpartition("_")[0] == name)

    def _details(self, face: Face) -> bytes:
        flags = face.admin_up | face.up << 1
        size, buffers = face.options["ring_size"], face.options["buffer_size"]
        head = struct.pack(">I6sIII?", face.index, face.mac, face.id, face.slave, face.mode, face.zero_copy)
        return head + struct.pack(">IIHI64s", face.socket_id, size, buffers, flags, face.name.encode())

    # -- the requests

    def _memif_socket_filename_add_del_v2(self, fields: bytes) -> bytes:
        add, number, length = struct.unpack_from(">?II", fields)
        assert len(fields) == 9 + length
        if number == 0:
            raise Refused(-73, "")
        if add:
            number = self.vpp.add_socket(number, fields[9:].decode())
        else:
            self.vpp.remove_socket(number)
        return struct.pack(">I", number)

    def _memif_socket_filename_add_del(self, fields: bytes) -> None:
        add, number, name = struct.unpack(">?I108s", fields)
        if add:
            self.vpp.add_socket(number, name.rstrip(b"\0").decode())
        else:
            self.vpp.remove_socket(number)

    def _create(self, fields: bytes, middle: str) -> bytes:
        role, mode, rx, tx, id, number, ring, size, *_, mac, secret = struct.unpack(f">IIBBIIIH{middle}6s24s", fields)
        copies = fields[24]
        face = self.vpp.create(
            number, id, slave=role == 1, mode=mode, zero_copy=not copies, mac=mac, secret=secret.rstrip(b"\0"),
            ring_size=ring or 1024, buffer_size=size or 2048, rx_queues=rx or 1, tx_queues=tx or 1,
        )  # fmt: skip
        return struct.pack(">I", face.index)

    def _memif_create(self, fields: bytes) -> bytes:
        return self._create(fields, "?")

    def _memif_create_v2(self, fields: bytes) -> bytes:
        return self._create(fields, "??")

    def _memif_delete(self, fields: bytes) -> None:
        self.vpp.delete(self.vpp.face(struct.unpack(">I", fields)[0]))

    def _sw_interface_set_flags(self, fields: bytes) -> None:
        index, flags = struct.unpack(">II", fields)
        self.vpp.set_state(self.vpp.face(index), up=bool(flags & 1))

    def _sw_interface_add_del_address(self, fields: bytes) -> None:
        index, _add, _all, family, raw, length = struct.unpack(">I??B16sB", fields)
        address = ipaddress.ip_interface((raw if family else raw[:4], length))
        self.vpp.add_address(self.vpp.face(index), address)

    def _sw_interface_set_mtu(self, fields: bytes) -> None:
        index, mtu, *_ = struct.unpack(">I4I", fields)
        self.vpp.face(index).mtu = mtu

    def _show_version(self, fields: bytes) -> bytes:
        return struct.pack("32s32s32s256s", b"vpe", VERSION.encode(), b"", b"")

    def _sockclnt_delete(self, fields: bytes) -> None:
        """vpp-papi says farewell."""

    def _control_ping(self, fields: bytes) -> bytes:
        return struct.pack(">II", 0, 1)

    def _cli_inband(self, fields: bytes) -> bytes:
        (length,) = struct.unpack_from(">I", fields)
        assert len(fields) == 4 + length
        retval, text = run(self.vpp, fields[4:].decode())
        return struct.pack(">iI", retval, len(text)) + text.encode()
