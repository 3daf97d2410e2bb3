"""A neighbour who may write in the socket's directory puts other files in its place: nothing happens to those."""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import NOBODY
from memif.address import parse_address
from memif.control.listener import listen_socket
from memif.errors import MemifError
from patience import within

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be attacked by another user")

ATTACKS = 20
CAP_NET_ADMIN = 12
ASKED = [(0o666, None), (0o660, (-1, 12345)), (0o777, (12345, 12345)), (None, (12345, -1)), (0o606, None)]


def without_net_admin() -> None:
    """Give up, in this process, the right that lets a program ask for the file of a socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, data) == 0
    for word in (0, 1, 2):  # effective, permitted, inheritable
        data[word] &= ~(1 << CAP_NET_ADMIN)
    assert libc.capset(head, data) == 0, os.strerror(ctypes.get_errno())


@contextlib.contextmanager
def running(work: Callable[[], None]) -> Iterator[int]:
    """A child doing `work` until the end of the block."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def folder(socket_path: str) -> str:
    """The socket's directory, in which everybody may write."""
    name = os.path.dirname(socket_path)
    os.chmod(name, 0o777)
    return name


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("x")
    path.chmod(0o600)
    return path


def symlink(precious: Path, trap: str) -> contextlib.ExitStack:
    os.symlink(precious, trap)
    return contextlib.ExitStack()


def hard_link(precious: Path, trap: str) -> contextlib.ExitStack:
    """The attacker may not always make one; the directory's owner may have."""
    beside = trap + ".precious"
    precious.rename(beside)
    precious.symlink_to(beside)
    os.link(beside, trap)
    return contextlib.ExitStack()


def other_socket(precious: Path, trap: str) -> contextlib.ExitStack:
    keep = contextlib.ExitStack()
    other = keep.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    other.bind(trap)
    os.chmod(trap, 0o600)
    other.listen()
    return keep


def linked_socket(precious: Path, trap: str) -> contextlib.ExitStack:
    keep = other_socket(precious, trap)
    os.link(trap, trap + ".link")
    return keep


def attack(name: str, trap: str, count: mmap.mmap) -> None:
    """Wait for a socket of root's, put the trap in its place, take it away again, and so on."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    while True:
        if not os.path.lexists(name):
            continue
        os.rename(trap, name)
        count[0] = min(count[0] + 1, 255)
        time.sleep(0.003)
        # The victim takes a file aside for a moment before it removes it, and puts back what is not its own.
        while not os.path.lexists(trap):
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, trap)


@pytest.mark.parametrize("privileged", [True, False], ids=["net_admin", "without"])
@pytest.mark.parametrize("make", [symlink, hard_link, other_socket, linked_socket])
def test_what_an_attacker_puts_in_place_stays_as_it_was(
    folder: str,
    socket_path: str,
    precious: Path,
    make: Callable[[Path, str], contextlib.ExitStack],
    privileged: bool,
) -> None:
    trap = os.path.join(folder, "trap")
    count = mmap.mmap(-1, 1)
    with make(precious, trap):
        watched = [os.open(trap, os.O_PATH | os.O_NOFOLLOW), os.open(precious, os.O_PATH)]
        before = [state(fd) for fd in watched]

        def victim() -> None:
            if not privileged:
                without_net_admin()
            listen_again_and_again(socket_path)

        with running(lambda: attack(socket_path, trap, count)), running(victim):
            deadline = time.monotonic() + within(60)
            while count[0] < ATTACKS and time.monotonic() < deadline:
                assert [state(fd) for fd in watched] == before
                time.sleep(0.001)
        assert [state(fd) for fd in watched] == before
        for fd in watched:
            os.close(fd)
    assert count[0] >= ATTACKS, "the attacker had no chance"


def state(fd: int) -> tuple[int, int, int]:
    info = os.fstat(fd)
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid


def listen_again_and_again(path: str) -> None:
    address = parse_address(path)
    while True:
        for mode, owner in ASKED:
            with contextlib.suppress(MemifError), listen_socket(address, mode=mode, owner=owner):
                time.sleep(0.0002)
