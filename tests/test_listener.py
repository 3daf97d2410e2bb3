"""Listening: whose file may be taken over, who may connect, what is left behind."""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import memif
from children import NOBODY, text_of_child
from ends import all_up
from memif.address import Address, parse_address
from memif.control.listener import Listener, listen_socket
from memif.control.transport import connect_socket
from memif.errors import (
    ErrorCode,
    MemifConnectionError,
    MemifFileNotFoundError,
    MemifOSError,
    MemifPermissionError,
    MemifRefusedError,
)
from patience import within

NO_ID = 0xFFFFFFFF

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def address(socket_path: str) -> Address:
    return parse_address(socket_path)


@pytest.fixture
def open_folder(socket_path: str) -> str:
    """The directory of `socket_path`, which everyone may enter now."""
    folder = os.path.dirname(socket_path)
    os.chmod(folder, 0o755)
    return folder


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def dead_socket(path: str, kind: int = socket.SOCK_SEQPACKET) -> None:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(path)


class TestListen:
    def test_clients_get_in_and_the_file_goes_away(self, address: Address, socket_path: str) -> None:
        with listen_socket(address) as listener:
            with connect_socket(address) as client:
                accepted, _ = listener.accept()
                accepted.close()
                assert client.type == socket.SOCK_SEQPACKET
            assert mode_of(socket_path) == 0o600
            assert not os.get_inheritable(listener.fileno())
            with pytest.raises(BlockingIOError):
                listener.accept()
        assert not os.path.lexists(socket_path)

    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
    def test_mode_in_spite_of_umask(self, address: Address, socket_path: str, mode: int) -> None:
        before = os.umask(0o077)
        try:
            with listen_socket(address, mode=mode):
                assert mode_of(socket_path) == mode
        finally:
            os.umask(before)

    def test_mode_none_leaves_it_to_the_umask(self, address: Address, socket_path: str) -> None:
        before = os.umask(0o027)
        try:
            with listen_socket(address, mode=None):
                assert mode_of(socket_path) == 0o750
        finally:
            os.umask(before)

    def test_the_kernel_shows_its_name(self, address: Address, socket_path: str) -> None:
        for mode in (0o600, None):
            with listen_socket(address, mode=mode) as listener:
                assert listener.getsockname() == socket_path
                assert socket_path in [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]

    def test_the_umask_of_others_stays(self, address: Address, socket_path: str) -> None:
        """Not even for a moment does another thread make files with another mode."""
        seen, done = set(), threading.Event()
        file = socket_path + ".other"

        def make_files() -> None:
            while not done.is_set():
                os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o777))
                seen.add(mode_of(file))
                os.unlink(file)

        before = os.umask(0o027)
        thread = threading.Thread(target=make_files)
        try:
            thread.start()
            for _ in range(200):
                listen_socket(address, mode=0o666).close()
        finally:
            done.set()
            thread.join(10)
            os.umask(before)
        assert seen == {0o750}

    def test_nobody_hears_of_the_child_that_binds(self, address: Address) -> None:
        signals: list[int] = []
        before = signal.signal(signal.SIGCHLD, lambda number, _: signals.append(number))
        try:
            listen_socket(address).close()
            assert not signals
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_a_directory_that_narrows_the_mode(self, address: Address, socket_path: str) -> None:
        entries = [(0x01, 6, NO_ID), (0x04, 0, NO_ID), (0x20, 0, NO_ID)]  # user: rw, group and others: nothing
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        try:
            os.setxattr(os.path.dirname(socket_path), "system.posix_acl_default", acl)
        except OSError as error:
            pytest.skip(f"no access control lists here: {error}")
        with pytest.raises(MemifPermissionError, match=r"got mode 0600 instead of 0660, which .*ACL"):
            listen_socket(address, mode=0o660)
        assert not os.path.lexists(socket_path)
        listen_socket(address).close()

    def test_abstract(self) -> None:
        address = parse_address(f"@memif-test-{os.getpid()}")
        with listen_socket(address):
            connect_socket(address).close()
            with pytest.raises(MemifOSError, match="has @memif-test"):
                listen_socket(address)
        with pytest.raises(MemifRefusedError, match="in this network namespace"):
            connect_socket(address)

    def test_relative_path_survives_a_change_of_directory(
        self, socket_path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(os.path.dirname(socket_path))
        with listen_socket(parse_address("m.sock")):
            assert os.path.exists(socket_path)
            monkeypatch.chdir("/")
        assert not os.path.lexists(socket_path)

    def test_backlog(self, address: Address) -> None:
        with listen_socket(address, backlog=1), contextlib.ExitStack() as clients:
            # The kernel lets one more wait than was asked for.
            for _ in range(2):
                clients.enter_context(connect_socket(address))
            with pytest.raises(MemifConnectionError, match="wait to be accepted") as caught:
                connect_socket(address)
            assert caught.value.code == ErrorCode.AGAIN

    def test_no_directory(self, socket_path: str) -> None:
        with pytest.raises(MemifFileNotFoundError, match=r"directory .*/none does not exist"):
            listen_socket(parse_address(os.path.join(os.path.dirname(socket_path), "none", "m.sock")))

    def test_out_of_descriptors(self, address: Address) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with pytest.raises(MemifOSError) as caught:
                listen_socket(address)
            assert caught.value.code == ErrorCode.PROC_FILE_LIMIT
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestTakeover:
    def test_dead_socket_is_replaced(self, address: Address, socket_path: str) -> None:
        dead_socket(socket_path)
        with listen_socket(address):
            connect_socket(address).close()

    def test_socket_of_a_killed_process_is_replaced(self, address: Address, socket_path: str) -> None:
        ready, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            keep = listen_socket(address)
            os.write(writer, b"x")
            time.sleep(30)
            os._exit(keep.fileno())
        assert os.read(ready, 1) == b"x"
        with pytest.raises(MemifOSError, match=r"has .* already"):
            listen_socket(address)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(writer)
        assert os.path.exists(socket_path)
        with listen_socket(address):
            connect_socket(address).close()

    def test_living_listener_stays(self, address: Address) -> None:
        with listen_socket(address):
            with pytest.raises(MemifOSError, match=r"has .* already") as caught:
                listen_socket(address)
            assert caught.value.errno == errno.EADDRINUSE
            connect_socket(address).close()

    def test_living_listener_with_a_full_queue_stays(self, address: Address) -> None:
        with listen_socket(address, backlog=0), connect_socket(address):
            with pytest.raises(MemifOSError, match=r"has .* already"):
                listen_socket(address)

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_living_socket_of_another_type_stays(self, address: Address, socket_path: str, kind: int) -> None:
        with socket.socket(socket.AF_UNIX, kind) as other:
            other.bind(socket_path)
            with pytest.raises(MemifOSError, match=r"has .* already"):
                listen_socket(address)
            assert os.path.exists(socket_path)

    def test_a_socket_that_does_not_listen_yet_stays(self, address: Address, socket_path: str) -> None:
        for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            with socket.socket(socket.AF_UNIX, kind) as other:
                other.bind(socket_path)
                with pytest.raises(MemifOSError, match=r"has .* already"):
                    listen_socket(address)
                other.listen()
                with socket.socket(socket.AF_UNIX, kind) as client:
                    client.connect(socket_path)
            os.unlink(socket_path)

    def test_looking_does_not_disturb_a_listener(self, address: Address) -> None:
        with listen_socket(address) as listener:
            with pytest.raises(MemifOSError, match=r"has .* already"):
                listen_socket(address)
            with pytest.raises(BlockingIOError):
                listener.accept()

    def test_nothing_else_is_left_in_the_directory(self, address: Address, socket_path: str) -> None:
        folder = os.path.dirname(socket_path)
        before = set(os.listdir(folder))
        dead_socket(socket_path)
        with listen_socket(address):
            assert set(os.listdir(folder)) == before | {os.path.basename(socket_path)}
        assert set(os.listdir(folder)) == before

    def test_other_files_stay(self, address: Address, socket_path: str) -> None:
        makers: list[Callable[[], object]] = [
            lambda: Path(socket_path).write_text("precious"),
            lambda: os.mkfifo(socket_path),
            lambda: os.symlink("/nowhere", socket_path),
        ]
        for make in makers:
            make()
            with pytest.raises(MemifOSError) as caught:
                listen_socket(address)
            assert (caught.value.code, caught.value.errno) == (ErrorCode.FILE_NOT_SOCK, errno.EEXIST)
            assert os.path.lexists(socket_path)
            os.unlink(socket_path)

    def test_of_many_that_start_at_once_one_wins(self, address: Address, socket_path: str) -> None:
        for _ in range(20):
            dead_socket(socket_path)
            won, lost = race(address, 4)
            assert (len(won), len(lost)) == (1, 3)
            connect_socket(address).close()
            won[0].close()

    def test_a_lock_held_for_ever_does_not_stop_us(self, address: Address, socket_path: str) -> None:
        folder = os.open(os.path.dirname(socket_path), os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            start = time.monotonic()
            listen_socket(address).close()
            assert time.monotonic() - start < within(3)
        finally:
            os.close(folder)


def race(address: Address, count: int) -> tuple[list[Listener], list[MemifOSError]]:
    """Let `count` threads listen on one name at the same time."""
    won: list[Listener] = []
    lost: list[MemifOSError] = []
    start = threading.Barrier(count)

    def run() -> None:
        start.wait(10)
        try:
            won.append(listen_socket(address))
        except MemifOSError as error:
            lost.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return won, lost


class TestClose:
    def test_twice(self, address: Address, socket_path: str) -> None:
        listener = listen_socket(address)
        listener.close()
        with listen_socket(address):
            listener.close()
            assert os.path.exists(socket_path)

    def test_a_file_put_in_its_place_stays(self, address: Address, socket_path: str) -> None:
        listener = listen_socket(address)
        os.rename(socket_path, socket_path + ".old")
        dead_socket(socket_path)
        listener.close()
        assert os.path.exists(socket_path)

    def test_file_already_gone(self, address: Address, socket_path: str) -> None:
        listener = listen_socket(address)
        os.unlink(socket_path)
        listener.close()

    def test_forked_child_leaves_the_file(self, address: Address, socket_path: str) -> None:
        with listen_socket(address) as listener:
            assert text_of_child(lambda: str(listener.close()), uid=os.getuid(), gid=os.getgid()) == "None"
            connect_socket(address).close()

    def test_failure_after_bind_leaves_no_file(self, address: Address, socket_path: str) -> None:
        with pytest.raises((MemifOSError, OverflowError)):
            listen_socket(address, owner=(1 << 40, 0))
        assert not os.path.lexists(socket_path)

    def test_plain_sockets_too(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.close()
        assert sock.fileno() == -1


@needs_root
class TestOtherUsers:
    def test_owner(self, address: Address, socket_path: str, open_folder: str) -> None:
        with listen_socket(address, owner=(-1, NOBODY), mode=0o660) as listener:
            info = os.stat(socket_path)
            assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, NOBODY, 0o660)
            assert text_of_child(lambda: str(connect_socket(address).close())) == "None"
            listener.accept()[0].close()

    def test_giving_away_needs_root(self, socket_path: str, open_folder: str) -> None:
        os.chmod(open_folder, 0o777)
        address = parse_address(socket_path)
        text = text_of_child(lambda: str(listen_socket(address, owner=(0, 0))))
        assert text.startswith("MemifPermissionError")
        assert "only root may give files away" in text
        assert not os.path.lexists(socket_path)

    def test_directory_not_writable(self, address: Address, open_folder: str) -> None:
        text = text_of_child(lambda: str(listen_socket(address)))
        assert text.startswith("MemifPermissionError")
        assert f"directory {open_folder} (owner root:root, mode 0755) cannot be written by user" in text

    def test_living_socket_that_may_not_be_tested_stays(
        self, address: Address, socket_path: str, open_folder: str
    ) -> None:
        os.chmod(open_folder, 0o777)
        with listen_socket(address, mode=0o600):
            text = text_of_child(lambda: str(listen_socket(address)))
            assert text.startswith("MemifPermissionError")
            assert "cannot be told" in text
            connect_socket(address).close()

    def test_dead_socket_of_another_user_in_a_sticky_directory(
        self, address: Address, socket_path: str, open_folder: str
    ) -> None:
        os.chmod(open_folder, 0o1777)
        dead_socket(socket_path)
        os.chmod(socket_path, 0o666)
        text = text_of_child(lambda: str(listen_socket(address)))
        assert text.startswith("MemifPermissionError")
        assert "left over from a program that has ended" in text

    def test_denied_by_mode_of_the_socket(self, address: Address, socket_path: str, open_folder: str) -> None:
        with listen_socket(address, mode=0o660):
            text = text_of_child(lambda: str(connect_socket(address)))
            assert text.startswith("MemifPermissionError")
            assert f"socket {socket_path} (owner root:root, mode 0660) cannot be written by user" in text
            assert "usermod -aG root" in text
        with listen_socket(address, mode=0o600):
            assert "let the listener set another mode or group" in text_of_child(lambda: str(connect_socket(address)))

    def test_denied_by_a_directory(self, address: Address, socket_path: str) -> None:
        os.chmod(os.path.dirname(socket_path), 0o700)
        with listen_socket(address, mode=0o666):
            text = text_of_child(lambda: str(connect_socket(address)))
            folder = os.path.dirname(socket_path)
            assert f"directory {folder} (owner root:root, mode 0700) cannot be entered by user" in text


def test_the_other_listener_is_named(socket_path: str) -> None:
    """By the pid and the program, where the kernel tells them; also where it is this process itself."""
    for name in (socket_path, f"@{socket_path}"):
        program = f"import memif, time; memif.listen({name!r}, id=9); print('up', flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout is not None
                assert other.stdout.readline() == "up\n"
                with pytest.raises(
                    MemifOSError, match=rf"^another program \(python.*, pid {other.pid}\) has .* already$"
                ):
                    listen_socket(parse_address(name))
            finally:
                other.kill()
    with contextlib.closing(listen_socket(parse_address("@" + socket_path))):
        with pytest.raises(MemifOSError, match=r"^this process has @.* already$"):
            listen_socket(parse_address("@" + socket_path))


def test_paths_longer_than_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket address holds 107 bytes; longer paths go through their directory, absolute and relative ones."""
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in (folder / "memif.sock", folder.relative_to(tmp_path) / ("n" * 85)):
        assert len(os.fsencode(path)) > 107
        with memif.listen(path, socket_mode=0o640) as master, memif.Socket(path) as connecting:
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            all_up(master, connecting.interface())
            with pytest.raises(MemifOSError, match=r"this process has .* already"):
                memif.listen(path)
        assert not path.exists()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:  # a file that a dead program left
            monkeypatch.chdir(path.parent)
            dead.bind(path.name)
            monkeypatch.chdir(tmp_path)
        with pytest.raises(MemifRefusedError, match="left over from a program that has ended"):
            connect_socket(parse_address(path))
        memif.listen(path).close()
    with pytest.raises(MemifFileNotFoundError, match="no directory"):
        connect_socket(parse_address(tmp_path / ("x" * 120) / "memif.sock"))
    with pytest.raises(memif.MemifValueError, match="at most 85"):
        memif.listen(folder / ("n" * 86))
