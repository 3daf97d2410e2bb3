"""``memif list`` as a process: our master, DPDK's, an abstract name, what dead programs leave, and hostile answers."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import memif as library
from memif.discovery import find_sockets
from memif.protocol import wire
from memif.testing import unused_name
from patience import within
from peers.testpmd import Testpmd
from tools.process import Running, memif, running


@contextmanager
def responder(name: str) -> Iterator[Running]:
    """A master in a process of its own, once it listens."""
    with running("icmp-responder", "--role", "master", "--socket", name) as tool:
        while find_sockets([name], ask="none")[0].state != "listening":
            assert tool.process.poll() is None, tool.err
        yield tool


def test_our_master_and_its_client(socket_path: str) -> None:
    with responder(socket_path) as tool:
        result = memif("list", socket_path, "--timeout", within(5))
        assert result.out.splitlines() == [
            f"{socket_path}  memif 2.0, 'memif for Python'",
            f"  master  memif icmp-responder (pid {tool.process.pid}, user {os.getuid()})",
            "  client  none",
        ]
        assert (result.code, result.err) == (0, "")
        with library.connect(socket_path, timeout=within(10)):
            text = memif("list", socket_path, "--timeout", within(5)).out
            assert f"(pid {os.getpid()}, user {os.getuid()})" in text.splitlines()[2]
        result = memif("list", os.path.dirname(socket_path), "--json", "--timeout", within(5))
    (found,) = result.json
    assert found["listeners"] == [
        {"pid": tool.process.pid, "program": "memif icmp-responder", "uid": os.getuid()},
    ]
    assert (found["name"], found["state"], found["memif"], found["version"]) == (socket_path, "listening", True, "2.0")


def test_an_abstract_name() -> None:
    name = unused_name()
    with responder(name):
        assert memif("list", name, "--timeout", within(5)).out.startswith(f"{name}  memif 2.0")
        everything = memif("list", "--ask", "none")
        assert f"{name}  has not said" in everything.out
    result = memif("list", name)
    assert (result.code, result.out) == (1, f"{name}  no such socket\n")


@pytest.mark.dpdk
def test_a_server_of_dpdk(testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    """It goes on as if nobody had asked: its client comes, is there, and packets pass."""
    server = testpmd("server", forward="io")
    for _ in range(5):
        result = memif("list", socket_path, "--timeout", within(5))
        assert result.out.splitlines()[0].startswith(f"{socket_path}  memif 2.0, 'DPDK ")
        assert "  master  dpdk-testpmd (pid" in result.out
    with library.connect(socket_path, timeout=within(10)) as iface, server.forwarding():
        assert f"pid {os.getpid()}," in memif("list", socket_path, "--timeout", within(5)).out
        assert iface.tx[0].send([b"x" * 60]) == 1
        with iface.rx[0].recv(1, timeout=within(5)) as burst:
            assert burst.tobytes() == [b"x" * 60]
    with library.connect(socket_path, timeout=within(10)):
        pass


def test_what_a_dead_program_left(socket_path: str) -> None:
    tool = Running("icmp-responder", "--role", "master", "--socket", socket_path)
    while find_sockets([socket_path], ask="none")[0].state != "listening":
        assert tool.process.poll() is None, tool.err
    tool.close()  # kills it
    result = memif("list", socket_path)
    assert (result.code, result.out) == (
        0,
        f"{socket_path}  dead: its program has ended, and the next master takes the file over\n",
    )
    result = memif("list", str(Path(socket_path).parent / "never"))
    assert (result.code, result.out.split("  ")[1]) == (1, "no such socket\n")


def test_a_hostile_answer_is_shown_escaped(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(socket_path)
        listener.listen()
        hello = wire.encode(wire.Hello())
        evil = hello[:2] + b"\x1b]0;x\x07\n'\xff".ljust(32, b"\0") + hello[34:]

        def serve() -> None:
            with listener.accept()[0] as client:
                client.send(evil)

        thread = threading.Thread(target=serve)
        thread.start()
        result = memif("list", socket_path, "--timeout", within(5))
        thread.join()
    assert result.code == 0
    first = result.out.splitlines()[0]
    assert first.startswith(f"{socket_path}  memif 2.0, ")
    assert "]0;x" in first
    assert first.isprintable()


def test_wrong_usage() -> None:
    result = memif("list", "unix:/x")
    assert result.code == 2
    assert "a path, without 'unix:'" in result.err
    assert memif("list", "--ask", "nobody").code == 2


def test_the_shell_completes_sockets(socket_path: str) -> None:
    folder = os.path.dirname(socket_path)

    def complete(line: str) -> list[str]:
        environment = os.environ | {"_MEMIF_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"}
        words = [sys.executable, "-c", "from memif.tools.cli import cli; cli(prog_name='memif')"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=within(30), check=False)
        return done.stdout.splitlines()

    with library.listen(socket_path):
        assert complete(f"memif ping --socket {folder}") == [f"plain,{socket_path}"]
        assert complete(f"memif ping --socket {folder}/other") == [f"file,{folder}/other"]
