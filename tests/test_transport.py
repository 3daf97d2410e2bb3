"""Connecting, and moving messages with descriptors, over real sockets."""

import array
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from children import in_child
from memif.address import Address, parse_address
from memif.control.transport import (
    MESSAGE_SIZE,
    connect_socket,
    peer_credentials,
    recv_message,
    send_message,
)
from memif.errors import (
    ErrorCode,
    MemifFileNotFoundError,
    MemifOSError,
    MemifRefusedError,
    MemifValueError,
)
from memif.system._steady import Descriptor
from patience import within

MESSAGE = bytes(range(128))
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def address(socket_path: str) -> Address:
    return parse_address(socket_path)


def send_fds(sock: socket.socket, count: int, data: bytes = MESSAGE) -> None:
    """Send `data` with `count` descriptors of /dev/null."""
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd] * count))
        sock.sendmsg([data], [rights])
    finally:
        os.close(fd)


def close_all(fds: list[Descriptor]) -> None:
    for fd in fds:
        fd.close()


class TestConnect:
    def test_socket_is_as_promised(self, address: Address, socket_path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(socket_path)
            listener.listen(1)
            with connect_socket(address) as sock:
                assert sock.type == socket.SOCK_SEQPACKET
                assert not sock.getblocking()
                assert not os.get_inheritable(sock.fileno())

    def test_no_file(self, address: Address) -> None:
        with pytest.raises(MemifFileNotFoundError, match=r"start the listening side.*@/") as caught:
            connect_socket(address)
        assert caught.value.code == ErrorCode.NO_FILE

    def test_no_directory(self) -> None:
        with pytest.raises(MemifFileNotFoundError, match="there is no directory /none/of/these"):
            connect_socket(parse_address("/none/of/these/memif.sock"))

    def test_dead_socket(self, address: Address, socket_path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.bind(socket_path)
        with pytest.raises(MemifRefusedError, match="left over from a program that has ended"):
            connect_socket(address)

    def test_file_that_is_no_socket(self, address: Address, socket_path: str) -> None:
        Path(socket_path).touch()
        with pytest.raises(MemifOSError) as caught:
            connect_socket(address)
        assert caught.value.code == ErrorCode.FILE_NOT_SOCK

    def test_socket_of_another_type(self, address: Address, socket_path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(socket_path)
            listener.listen(1)
            with pytest.raises(MemifRefusedError, match="SOCK_SEQPACKET"):
                connect_socket(address)

    def test_component_that_is_no_directory(self, socket_path: str) -> None:
        Path(socket_path).touch()
        with pytest.raises(MemifOSError):
            connect_socket(parse_address(socket_path + "/x"))


class TestMessages:
    def test_round_trip(self, pair: Pair) -> None:
        send_message(pair[0], MESSAGE)
        assert recv_message(pair[1]) == (MESSAGE, [], False)

    def test_one_descriptor(self, pair: Pair) -> None:
        memory = os.memfd_create("x")
        os.write(memory, b"hello")
        send_message(pair[0], MESSAGE, memory)
        os.close(memory)
        data, fds, truncated = recv_message(pair[1])
        assert (data, len(fds), truncated) == (MESSAGE, 1, False)
        assert os.pread(fds[0], 5, 0) == b"hello"
        assert not os.get_inheritable(fds[0])
        close_all(fds)

    @pytest.mark.parametrize("count", [2, 3, 50])
    def test_all_descriptors_are_returned(self, pair: Pair, count: int) -> None:
        send_fds(pair[0], count)
        data, fds, truncated = recv_message(pair[1])
        assert (data, len(set(fds)), truncated) == (MESSAGE, count, False)
        close_all(fds)

    def test_as_many_descriptors_as_a_message_can_have(self, pair: Pair) -> None:
        before = len(os.listdir("/proc/self/fd"))
        send_fds(pair[0], 253)
        data, fds, truncated = recv_message(pair[1])
        assert (data, truncated) == (MESSAGE, False), "what has no room is closed inside of recvmsg, which can hang"
        assert len(fds) == 253
        close_all(fds)
        # Sockets are closed by a thread, for which a close waits only a little.
        deadline = time.monotonic() + within(10)
        while len(os.listdir("/proc/self/fd")) != before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_credentials_beside_the_descriptor(self, pair: Pair) -> None:
        pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        send_fds(pair[0], 1)
        data, fds, truncated = recv_message(pair[1])
        assert (data, len(fds), truncated) == (MESSAGE, 1, False)
        close_all(fds)
        send_message(pair[0], MESSAGE)
        assert recv_message(pair[1]) == (MESSAGE, [], False)

    @pytest.mark.parametrize("size", [1, 127, 129])
    def test_other_lengths_arrive_as_sent(self, pair: Pair, size: int) -> None:
        pair[0].send(bytes(size))
        assert recv_message(pair[1]) == (bytes(size), [], False)

    def test_longer_datagrams_are_reported(self, pair: Pair) -> None:
        pair[0].send(bytes(130))
        assert recv_message(pair[1]) == (bytes(129), [], True)
        pair[0].send(bytes(5000))
        send_message(pair[0], MESSAGE)
        assert recv_message(pair[1])[2]
        assert recv_message(pair[1]) == (MESSAGE, [], False)

    def test_nothing_there_and_end(self, pair: Pair) -> None:
        pair[1].setblocking(True)
        with pytest.raises(BlockingIOError):
            recv_message(pair[1])
        pair[0].close()
        assert recv_message(pair[1]) == (b"", [], False)

    def test_last_words_of_a_peer_that_did_not_read_ours(self, pair: Pair) -> None:
        send_message(pair[1], bytes(MESSAGE_SIZE))
        send_message(pair[0], MESSAGE)
        pair[0].close()
        # Plain recv reports a reset first: the case is the intended one.
        assert recv_message(pair[1]) == (MESSAGE, [], False)
        assert recv_message(pair[1]) == (b"", [], False)

    def test_kernel_does_report_that_reset(self, pair: Pair) -> None:
        pair[1].send(bytes(MESSAGE_SIZE))
        pair[0].send(MESSAGE)
        pair[0].close()
        with pytest.raises(ConnectionResetError):
            pair[1].recv(200)

    def test_sending_never_blocks(self, pair: Pair) -> None:
        pair[0].setblocking(True)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 100_000:
                send_message(pair[0], MESSAGE)
                sent += 1
        assert 0 < sent < 100_000

    def test_sending_to_nobody(self, pair: Pair) -> None:
        pair[1].close()
        with pytest.raises(BrokenPipeError):
            send_message(pair[0], MESSAGE)

    @pytest.mark.parametrize("fd", [0, -1])
    def test_descriptor_0_is_not_sent(self, pair: Pair, fd: int) -> None:
        with pytest.raises(MemifValueError, match="fd"):
            send_message(pair[0], MESSAGE, fd)

    def test_received_descriptors_are_never_standard_ones(self, pair: Pair) -> None:
        send_fds(pair[0], 4)

        def child() -> int:
            for fd in (0, 1, 2):
                with contextlib.suppress(OSError):
                    os.close(fd)
            _, fds, _ = recv_message(pair[1])
            return int(len(fds) == 4 and min(fds) > 2 and all(os.fstat(fd).st_rdev for fd in fds))

        assert os.waitstatus_to_exitcode(in_child(child)) == 1


class TestCredentials:
    def test_own_process(self, pair: Pair) -> None:
        who = peer_credentials(pair[0])
        assert (who.pid, who.uid, who.gid) == (os.getpid(), os.geteuid(), os.getegid())

    def test_large_user_numbers(self, address: Address, socket_path: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to become another user")
        os.chmod(os.path.dirname(socket_path), 0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(socket_path)
            os.chmod(socket_path, 0o666)
            listener.listen(1)

            def child() -> int:
                os.setresuid(0xFFFFFFF0, 0xFFFFFFF0, 0xFFFFFFF0)
                connect_socket(address)
                return 0

            assert in_child(child) == 0
            client, _ = listener.accept()
            with client:
                assert peer_credentials(client).uid == 0xFFFFFFF0

    def test_closed_socket(self, pair: Pair) -> None:
        pair[0].close()
        with pytest.raises(MemifOSError) as caught:
            peer_credentials(pair[0])
        assert caught.value.code == ErrorCode.BAD_FD
