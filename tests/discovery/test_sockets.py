"""`memif.discovery`: what the kernel tells of sockets, and what masters say."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import memif
from children import text_of_child
from memif.config import Deadline
from memif.discovery import FoundSocket, find_sockets, kernel, say_hello
from memif.protocol import wire
from memif.testing import pair, unused_name
from patience import within
from tools.process import Running, running, words


def one(name: str, **options: object) -> FoundSocket:
    """What is found under a name."""
    (found,) = find_sockets([name], timeout=within(5), **options)  # type: ignore[arg-type]
    return found


@contextmanager
def responder(name: str, *args: object) -> Iterator[Running]:
    """A master in a process of its own, once it listens."""
    with running("icmp-responder", "--role", "master", "--socket", name, *args) as tool:
        deadline = Deadline(within(40))
        while one(name, ask="none").state != "listening":
            assert tool.process.poll() is None, tool.err
            assert deadline.left(1) > 0
        yield tool


@contextmanager
def served(*ends: memif.Interface) -> Iterator[None]:
    """Interfaces of this process whose sockets a thread polls."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            for end in ends:
                end.socket.poll(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_who_listens_and_who_is_connected(socket_path: str) -> None:
    with responder(socket_path) as tool:
        pid = tool.process.pid
        found = one(socket_path)
        assert (found.state, found.memif, found.app_name, found.version) == (
            "listening",
            True,
            "memif for Python",
            "2.0",
        )
        assert [(each.pid, each.program, each.uid) for each in found.listeners] == [
            (pid, "memif icmp-responder", os.getuid())
        ]
        assert (found.clients, found.waiting) == ((), 0)
        with memif.connect(socket_path, timeout=within(10)):
            (client,) = one(socket_path).clients
            assert [each.pid for each in client] == [os.getpid()]
        assert [each.name for each in find_sockets([os.path.dirname(socket_path)])] == [socket_path]


def test_abstract_names() -> None:
    name = unused_name()
    with responder(name):
        found = one(name)
        assert (found.name, found.state, found.app_name) == (name, "listening", "memif for Python")
        assert name in [each.name for each in find_sockets(ask="none")]
        assert one("abstract:" + name[1:]) == found
    assert one(name).state == "missing"


def test_a_relative_name_is_found_by_its_folder(socket_path: str) -> None:
    folder, name = os.path.split(socket_path)
    process = subprocess.Popen(words("icmp-responder", "--role", "master", "--socket", name), cwd=folder)
    try:
        while one(socket_path, ask="none").state != "listening":
            assert process.poll() is None
        found = [each for each in find_sockets(ask="none") if socket_path == each.name]
        assert [each.listeners[0].pid for each in found] == [process.pid]
    finally:
        process.terminate()
        process.wait()


def test_files_that_nobody_listens_on(socket_path: str) -> None:
    folder = Path(socket_path).parent
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(folder / "dead.sock"))
    (folder / "file").write_text("no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(folder / "stream.sock"))
        stream.listen()
        states = {name: one(str(folder / name)).state for name in ("dead.sock", "file", "stream.sock", "nothing")}
        assert states == {"dead.sock": "dead", "file": "other", "stream.sock": "other", "nothing": "missing"}
        assert [(each.name, each.state) for each in find_sockets([folder])] == [(str(folder / "dead.sock"), "dead")]
    with responder(str(folder / "dead.sock")):  # takes it over
        assert one(str(folder / "dead.sock")).memif


def test_a_file_that_was_removed_or_replaced(socket_path: str) -> None:
    with memif.listen(socket_path):
        os.unlink(socket_path)
        (found,) = [each for each in find_sockets(ask="none") if each.name == socket_path]
        assert (found.state, found.listeners[0].pid) == ("unreachable", os.getpid())
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.bind(socket_path)
            other.listen()
            states = sorted(each.state for each in find_sockets(ask="none") if each.name == socket_path)
            assert states == ["listening", "unreachable"]
            assert one(socket_path, ask="none").state == "listening"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_another_network_namespace(socket_path: str) -> None:
    process = subprocess.Popen(["unshare", "-n", *words("icmp-responder", "--role", "master", "--socket", socket_path)])
    try:
        while not os.path.exists(socket_path) or one(socket_path).state == "dead":
            assert process.poll() is None
        assert one(socket_path).state == "elsewhere"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_what_another_user_sees(socket_path: str) -> None:
    os.chmod(os.path.dirname(socket_path), 0o755)
    with responder(socket_path), running("sink", "--socket", socket_path) as tool:
        while not one(socket_path, ask="none").clients:
            assert tool.process.poll() is None, tool.err

        def look() -> str:
            (found,) = [each for each in find_sockets() if each.name == socket_path]
            return repr((found.state, found.memif, found.listeners, found.uid, found.clients, found.waiting))

        assert text_of_child(look) == repr(("listening", None, (), 0, ((),), 0))


def test_no_client_loses_its_place(socket_path: str) -> None:
    """A master with a single interface answers as often as it is asked; its client comes and stays."""
    with memif.listen(socket_path, name="only") as end, served(end):
        with memif.connect(socket_path, timeout=within(10)) as client:
            for _ in range(20):
                hello, process = say_hello(socket_path, within(5))
                assert (hello.name, hello.max_version) == ("memif for Python", 0x200)
                assert process is not None
                assert process.pid == os.getpid()
            assert client.up
            assert end.up
        assert end.socket.stats["refused"] == end.stats["refused"] == 0
        assert end.socket.stats["accepted"] == 21


def test_who_does_not_accept_is_asked_once(socket_path: str) -> None:
    """The question waits in the queue of the listener; a second one would take another place there."""
    program = f"import memif, time; end = memif.listen({socket_path!r}); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        for _ in range(3):
            (found,) = find_sockets([socket_path], timeout=0.05)
            assert (found.state, found.memif, found.app_name) == ("listening", None, None)
        assert one(socket_path).waiting == 1
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_this_process_is_not_asked(socket_path: str) -> None:
    with memif.listen(socket_path) as end:
        assert one(socket_path).listeners[0].pid == os.getpid()
        assert end.socket.stats["accepted"] == 0


ANSWERS = {
    "nothing": b"",
    "short": b"\x02\0",
    "text": b'{"version": "DPDK 22.11.11", "pid": 1, "max_output_len": 16384}',
    "another message": wire.encode(wire.Ack()),
    "too long": wire.encode(wire.Hello()) + b"x",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_who_says_something_else(socket_path: str, answer: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(socket_path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as client:
                if ANSWERS[answer]:
                    client.send(ANSWERS[answer])

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(memif.MemifProtocolError):
            say_hello(socket_path, within(5))
        thread.join()


def test_who_says_nothing(socket_path: str) -> None:
    with pytest.raises(FileNotFoundError):
        say_hello(socket_path)
    with memif.listen(socket_path), pytest.raises(TimeoutError):
        say_hello(socket_path, 0.05)


def test_two_ways_to_ask_the_kernel(socket_path: str) -> None:
    """/proc has the same sockets, without their peers."""
    name = unused_name()
    with memif.listen(socket_path), pair(name):
        ours = {socket_path.encode(), b"\0" + name[1:].encode()}

        def look(ask: Callable[[], Iterator[kernel.UnixSocket]]) -> list[tuple[object, ...]]:
            return sorted((each.inode, each.type, each.listening, each.name) for each in ask() if each.name in ours)

        assert look(kernel.from_netlink) == look(kernel.from_proc)
        told = [each for each in kernel.from_netlink() if each.name in ours]
        assert sorted(each.peer is not None for each in told) == [False, False, True]
        assert {each.uid for each in told} == {os.getuid()}


def test_without_netlink(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Iterator[kernel.UnixSocket]:
        raise OSError("not in this sandbox")

    monkeypatch.setattr(kernel, "from_netlink", refuse)
    with responder(socket_path) as tool:
        found = one(socket_path)
    assert (found.state, found.app_name, found.listeners[0].pid) == ("listening", "memif for Python", tool.process.pid)


@pytest.mark.parametrize(("argument", "value"), [("ask", "everybody"), ("timeout", -1), ("names", [""])])
def test_wrong_arguments(argument: str, value: object) -> None:
    with pytest.raises(memif.MemifValueError, match=f"argument {argument}: got "):
        find_sockets(**{argument: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["script", "module"])
def test_programs_of_python_have_their_own_name(socket_path: str, start: str) -> None:
    script = Path(sys.executable).parent / "memif"
    command = [str(script)] if start == "script" else [sys.executable, "-W", "error", "-m", "memif"]
    with subprocess.Popen([*command, "sink", "--role", "master", "--socket", socket_path]) as process:
        try:
            while one(socket_path, ask="none").state != "listening":
                assert process.poll() is None
            (found,) = one(socket_path, ask="none").listeners
            assert (found.pid, found.program) == (process.pid, "memif sink")
        finally:
            process.terminate()


@pytest.mark.parametrize("has", [True, False])
def test_a_program_that_has_memif_linked_in(socket_path: str, tmp_path: Path, has: bool) -> None:
    """As a static DPDK or one in Go: an interpreter with the word in its file, and a program without the package."""
    program = tmp_path / "static"
    program.write_bytes(Path(sys.executable).resolve().read_bytes() + b"\0net_me" + (b"mif\0" if has else b"mfi\0"))
    program.chmod(0o755)
    text = f"""
import socket
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind({socket_path!r})
listener.listen(1)
while True:
    client, _ = listener.accept()
    client.send({wire.encode(wire.Hello(name="gomemif"))!r})
    client.close()
"""
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with subprocess.Popen([program, "-I", "-S", "-c", text], env=environment) as process:
        try:
            while (found := one(socket_path)).state != "listening":
                assert process.poll() is None
            assert found.app_name == ("gomemif" if has else None)
            assert (socket_path in [each.name for each in find_sockets(ask="none")]) == has
            assert one(socket_path, ask="all").app_name == "gomemif"
        finally:
            process.kill()
