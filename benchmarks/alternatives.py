"""What a Python user would use instead of memif, measured the same way: two pinned processes, 64-byte packets.

Each function returns the packets received per second; None if the alternative is not available.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from memif.bench import cores

SIZE = 64


def _pair(receive: Callable[[float], int], send: Callable[[float], object], seconds: float) -> float:
    """Run both sides, pinned, for `seconds`; return the packets per second that the receiver counted."""
    first, last = cores()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {last})
        try:
            send(time.monotonic() + seconds + 0.2)
        except OSError:
            pass
        os._exit(0)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {first})
    try:
        return receive(time.monotonic() + seconds) / seconds
    finally:
        os.sched_setaffinity(0, before)
        os.kill(child, 9)
        os.waitpid(child, 0)


def seqpacket(seconds: float) -> float:
    """AF_UNIX SEQPACKET, one packet a system call."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packet = bytes(SIZE)

    def send(end: float) -> None:
        while time.monotonic() < end:
            for _ in range(64):
                theirs.send(packet)

    def receive(end: float) -> int:
        count = 0
        while time.monotonic() < end:
            for _ in range(64):
                ours.recv(2048)
            count += 64
        return count

    with ours, theirs:
        return _pair(receive, send, seconds)


def pipe(seconds: float) -> float:
    """multiprocessing.Pipe with bytes."""
    ours, theirs = multiprocessing.Pipe()
    packet = bytes(SIZE)

    def send(end: float) -> None:
        while time.monotonic() < end:
            for _ in range(64):
                theirs.send_bytes(packet)

    def receive(end: float) -> int:
        count = 0
        while time.monotonic() < end:
            for _ in range(64):
                ours.recv_bytes()
            count += 64
        return count

    with ours, theirs:
        return _pair(receive, send, seconds)


def zeromq(seconds: float) -> float | None:
    """pyzmq PUSH/PULL over ipc."""
    try:
        import zmq
    except ImportError:
        return None
    packet = bytes(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        name = f"ipc://{folder}/bench"

        def send(end: float) -> None:
            out = zmq.Context().socket(zmq.PUSH)
            out.connect(name)
            while time.monotonic() < end:
                for _ in range(64):
                    out.send(packet)

        def receive(end: float) -> int:
            context = zmq.Context()
            inlet = context.socket(zmq.PULL)
            inlet.bind(name)
            count = 0
            while time.monotonic() < end:
                if inlet.poll(100):
                    for _ in range(64):
                        inlet.recv()
                    count += 64
            context.destroy(linger=0)
            return count

        return _pair(receive, send, seconds)


def veth(seconds: float) -> float | None:
    """A raw AF_PACKET socket over veth, in a network namespace of its own."""
    if os.geteuid() != 0:
        return None
    name = f"memif-bench-{os.getpid()}"
    commands = [
        ["netns", "add", name],
        ["-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1"],
        ["-n", name, "link", "set", "v0", "up"],
        ["-n", name, "link", "set", "v1", "up"],
    ]
    try:
        for command in commands:
            subprocess.run(["ip", *command], check=True, capture_output=True)
        code = (
            f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import alternatives as a; "
            f"print(a.raw_sockets({seconds}))"
        )
        done = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
        )
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError):
        return None
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def raw_sockets(seconds: float) -> float:
    """The two ends of `veth`, inside its namespace."""
    out, inlet = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2))
    out.bind(("v0", 0))
    inlet.bind(("v1", 0))
    inlet.settimeout(0.5)
    packet = b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(SIZE - 14)

    def send(end: float) -> None:
        while time.monotonic() < end:
            for _ in range(64):
                try:
                    out.send(packet)
                except OSError:
                    pass

    def receive(end: float) -> int:
        count = 0
        while time.monotonic() < end:
            for _ in range(64):
                inlet.recv(2048)
            count += 64
        return count

    with out, inlet:
        return _pair(receive, send, seconds)


ALTERNATIVES: dict[str, Callable[[float], float | None]] = {
    "AF_UNIX SEQPACKET socket": seqpacket,
    "multiprocessing.Pipe": pipe,
    "pyzmq over ipc": zeromq,
    "raw socket over veth": veth,
}
