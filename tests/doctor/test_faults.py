"""Faults made on purpose: `memif doctor` names each of them. `FAULTS` is the table in the documentation."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import memif
from children import text_of_child
from doctor.serving import raw_listener, serving, thread
from memif.doctor import FAULTS, diagnose, rings
from memif.errors import ErrorCode
from memif.protocol.wire import MESSAGE_SIZE, Disconnect, Hello, encode
from memif.testing import Descriptor, HostilePeer, RawRing, pump
from patience import within
from peers.testpmd import poll_until
from tools.process import Running, running
from vpp.commands import COMMANDS
from vpp.server import ApiServer
from vpp.standin import StandIn
from vpp.zero_copy import ZeroCopySlave

Made = tuple[str, dict[str, Any]]
Maker = Callable[[str, ExitStack], Made]
MADE: dict[str, Maker] = {}


def makes(name: str) -> Callable[[Maker], Maker]:
    """Decorator: it makes the fault `name` with a path for a socket, and returns what the doctor is asked."""

    def keep(maker: Maker) -> Maker:
        MADE[name] = maker
        return maker

    return keep


# -- the path


@makes("name")
def _(path: str, stack: ExitStack) -> Made:
    return f"unix:{path}", {}


@makes("no-folder")
def _(path: str, stack: ExitStack) -> Made:
    return f"{path}.d/m.sock", {}


@makes("no-socket")
def _(path: str, stack: ExitStack) -> Made:
    return path, {}


@makes("broken-link")
def _(path: str, stack: ExitStack) -> Made:
    os.symlink(f"{path}.gone", path)
    return path, {}


@makes("not-a-socket")
def _(path: str, stack: ExitStack) -> Made:
    Path(path).write_text("x")
    return path, {}


@makes("closed-folder")
def _(path: str, stack: ExitStack) -> Made:
    stack.enter_context(memif.listen(path))
    return path, {"as_nobody": True}  # the folder has mode 0700


@makes("no-right")
def _(path: str, stack: ExitStack) -> Made:
    stack.enter_context(memif.listen(path, socket_mode=0o600))
    os.chmod(os.path.dirname(path), 0o755)
    return path, {"as_nobody": True}


@makes("stale")
def _(path: str, stack: ExitStack) -> Made:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(path)
        dead.listen()
    return path, {}


@makes("no-abstract")
def _(path: str, stack: ExitStack) -> Made:
    return f"@{path}", {}


@makes("wrong-type")
def _(path: str, stack: ExitStack) -> Made:
    stack.enter_context(ApiServer(path, StandIn(os.path.dirname(path))))  # VPP's API
    return path, {}


# -- the listener


@makes("not-accepted")
def _(path: str, stack: ExitStack) -> Made:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    listener.bind(path)
    listener.listen(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.setblocking(False)
            client.connect(path)
    return path, {}


@makes("stopped")
def _(path: str, stack: ExitStack) -> Made:
    tool = Running("icmp-responder", "--role", "master", "--socket", path)
    stack.callback(tool.close)
    tool.until("answering")
    tool.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{tool.process.pid}/stat")
    end = time.monotonic() + within(10)
    while stat.read_text().rpartition(")")[2].split()[0] != "T" and time.monotonic() < end:
        time.sleep(0.01)
    return path, {"timeout": 0.2}


@makes("silent")
def _(path: str, stack: ExitStack) -> Made:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    listener.bind(path)
    listener.listen()
    return path, {"timeout": 0.2}


@makes("hangs-up")
def _(path: str, stack: ExitStack) -> Made:
    stack.enter_context(raw_listener(path, lambda client: None))
    return path, {}


@makes("not-memif")
def _(path: str, stack: ExitStack) -> Made:
    stack.enter_context(raw_listener(path, lambda client: client.send(b"220 mail.example.org ESMTP")))
    return path, {}


@makes("version")
def _(path: str, stack: ExitStack) -> Made:
    hello = encode(Hello("VPP 17.04", min_version=0x0100, max_version=0x0101))
    stack.enter_context(raw_listener(path, lambda client: client.send(hello)))
    return path, {}


# -- a client


def master(path: str, stack: ExitStack, **options: Any) -> memif.Interface:
    """A master that is served."""
    iface = stack.enter_context(memif.listen(path, **options))
    stack.enter_context(serving(iface))
    return iface


@makes("unknown-id")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack, id=3)
    return path, {"join": True}


def refuser(path: str, stack: ExitStack, *answers: bytes) -> None:
    """A master that says HELLO and answers the messages after that, as long as it has answers."""

    def play(client: socket.socket) -> None:
        client.send(encode(Hello("VPP 26.06")))
        for answer in answers:
            client.recv(MESSAGE_SIZE)
            client.send(answer)
        client.recv(MESSAGE_SIZE)
        time.sleep(0.3)

    stack.enter_context(raw_listener(path, play))


@makes("same-role")
def _(path: str, stack: ExitStack) -> Made:
    refuser(path, stack, encode(Disconnect(ErrorCode.ACCSLAVE, "cannot connect to slave")))
    return path, {"join": True}


@makes("secret-missing")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack, secret="s3cret")
    return path, {"join": True}


@makes("secret-wrong")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack, secret="s3cret")
    return path, {"join": True, "secret": "secret"}


@makes("mode")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack, mode="ip")
    return path, {"join": True}


@makes("taken")
def _(path: str, stack: ExitStack) -> Made:
    iface = master(path, stack)
    stack.enter_context(memif.connect(path, timeout=within(5)))
    stack.enter_context(thread(lambda: iface.rx and iface.up and iface.rx[0].recv(8, timeout=0).release()))
    return path, {"join": True}


@makes("refused")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack, authorize=lambda peer: False)
    return path, {"join": True}


@makes("no-link")
def _(path: str, stack: ExitStack) -> Made:
    refuser(path, stack)
    return path, {"join": True, "timeout": 0.2}


@makes("takes-nothing")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack)  # which receives nothing, as one of VPP that is down
    return path, {"join": True, "timeout": 0.5}


# -- the rings of others


def linked(path: str, stack: ExitStack, **slave: Any) -> tuple[memif.Interface, memif.Interface]:
    """A master and a slave, up and served."""
    listening = stack.enter_context(memif.listen(path))
    connecting = stack.enter_context(memif.Socket(path)).interface(reconnect=0.05, **slave)
    pump(listening.socket, connecting.socket, until=lambda: listening.up and connecting.up, timeout=within(5))
    stack.enter_context(serving(listening, connecting))
    return listening, connecting


@makes("not-emptied")
def _(path: str, stack: ExitStack) -> Made:
    _, slave = linked(path, stack)
    assert slave.tx[0].send([bytes(60)] * 5) == 5
    return path, {}


@makes("not-refilled")
def _(path: str, stack: ExitStack) -> Made:
    server, _ = linked(path, stack, ring_size=16)
    assert server.tx[0].send([bytes(60)] * 20) == 16
    return path, {}


@makes("no-buffers")
def _(path: str, stack: ExitStack) -> Made:
    server = stack.enter_context(memif.listen(path))
    slave = ZeroCopySlave(path, id=0, name="memif0/0", ring_size=16)  # as VPP's
    stack.callback(slave.close)
    stack.enter_context(serving(server, work=slave.poll))
    end = time.monotonic() + within(5)
    while not (slave.up and server.up) and time.monotonic() < end:
        time.sleep(0.01)
    return path, {}


def hostile(path: str, stack: ExitStack) -> HostilePeer:
    """A slave whose rings a test writes, linked."""
    server = stack.enter_context(memif.listen(path))
    stack.enter_context(serving(server))
    peer = stack.enter_context(HostilePeer(path, timeout=within(5)))
    peer.link()
    peer.show(peer.back, peer.back.size)
    return peer


@makes("indices")
def _(path: str, stack: ExitStack) -> Made:
    peer = hostile(path, stack)
    peer.out.head = peer.out.tail + 5000
    return path, {}


@makes("descriptor")
def _(path: str, stack: ExitStack) -> Made:
    peer = hostile(path, stack)
    peer.out[0] = Descriptor(0, 0, 64, 0xFFFFFF00)
    peer.show(peer.out, 1)
    return path, {}


@makes("overrun")
def _(path: str, stack: ExitStack) -> Made:
    server, _ = linked(path, stack, buffer_size=512, ring_size=64)
    ring = server.tx[0].ring
    assert ring is not None
    memory = memoryview(ring.regions[0])
    raw = RawRing(memory, ring.offset, 6)
    slot = raw[0]
    raw[0] = Descriptor(0, slot.region, 1500, slot.offset)
    raw.tail += 1
    raw.release()
    memory.release()
    return path, {}


# -- VPP's side


def vpp(path: str, stack: ExitStack, **options: Any) -> tuple[ApiServer, dict[str, Any]]:
    """A VPP with the socket `path`; with options a memif there, too."""
    folder = os.path.dirname(path)
    there = StandIn(folder, retry=0.1)
    there.sockets[1] = path
    if options:
        defaults = {"slave": False, "mode": 0, "zero_copy": True, "mac": bytes(6), "up": True, "id": 0, "secret": b""}
        given = defaults | {"ring_size": 1024, "buffer_size": 2048, "rx_queues": 1, "tx_queues": 1} | options
        up = given.pop("up")
        there.set_state(there.create(1, **given), up=up)
    server = stack.enter_context(ApiServer(f"{folder}/api.sock", there))
    return server, {"vpp": f"{folder}/api.sock", "timeout": within(5)}


@makes("vpp-unreachable")
def _(path: str, stack: ExitStack) -> Made:
    master(path, stack)
    return path, {"vpp": f"{path}.api"}


@makes("vpp-no-socket")
def _(path: str, stack: ExitStack) -> Made:
    _, options = vpp(path, stack)
    master(f"{path}.2", stack)
    return f"{path}.2", options


@makes("vpp-no-memif")
def _(path: str, stack: ExitStack) -> Made:
    _, options = vpp(path, stack, id=3)
    return path, options


@makes("vpp-down")
def _(path: str, stack: ExitStack) -> Made:
    _, options = vpp(path, stack, up=False)
    return path, options


@makes("vpp-slave")
def _(path: str, stack: ExitStack) -> Made:
    _, options = vpp(path, stack, slave=True)
    return path, options


@makes("vpp-refused")
def _(path: str, stack: ExitStack) -> Made:
    _, options = vpp(path, stack, slave=True, secret=b"right")
    iface = master(path, stack, secret="wrong")
    end = time.monotonic() + within(5)
    while not iface.stats["refused"] and time.monotonic() < end:
        time.sleep(0.01)
    return path, options


@makes("vpp-errors")
def _(path: str, stack: ExitStack) -> Made:
    server, options = vpp(path, stack, secret=b"s3cret")
    slave = stack.enter_context(memif.connect(path, secret="s3cret", ring_size=16, timeout=within(5)))
    (face,) = server.vpp.faces.values()
    COMMANDS["test fill"] = lambda there, words: "".join(str(face.send(0, bytes(60))) for _ in range(20))
    stack.callback(COMMANDS.pop, "test fill")
    with memif.vpp.Vpp(options["vpp"]) as connection:
        connection.cli("test fill")
    # The slave takes them late: VPP has lost four by then.
    stack.enter_context(thread(lambda: slave.rx[0].recv(32, timeout=0).release()))
    return path, options


#: What comes with another fault, because the one is a part of the other.
_TOO = {"descriptor": {"not-emptied"}}


def faults(path: str, options: dict[str, Any]) -> set[str]:
    """The faults that the doctor names."""
    return {finding.fault for finding in diagnose(path, **({"watch": 0.1} | options)) if finding.state == "fault"}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(name: str, socket_path: str) -> None:
    with ExitStack() as stack:
        path, options = MADE[name](socket_path, stack)
        if options.pop("as_nobody", False):
            if os.geteuid() != 0:
                pytest.skip("needs root, to be another user")
            found = set(text_of_child(lambda: " ".join(faults(path, options))).split())
        else:
            found = faults(path, options)
    assert name in found
    assert found <= {name} | _TOO.get(name, set())


def text_of(path: str, name: str) -> str:
    return next(finding.text for finding in diagnose(path, watch=0.1) if finding.fault == name)


def test_signals_that_nobody_takes(socket_path: str) -> None:
    """An honest slave has signalled what it sent."""
    with ExitStack() as stack:
        MADE["not-emptied"](socket_path, stack)
        assert "waits for interrupts, and one is pending" in text_of(socket_path, "not-emptied")


def test_signals_that_nobody_sends(tmp_path: Path) -> None:
    """A slave that forgets to signal, in another process, whose event fds are those of the link alone."""
    path = str(tmp_path / "m.sock")
    with running("sink", "--role", "master", "--socket", path, "--duration", 60, until="") as sink:
        assert poll_until(lambda: diagnose(path, watch=0.0)[-1].check == "rings", 20, 0.05)  # it listens, and is served
        with HostilePeer(path, timeout=within(5)) as peer:
            peer.link()
            sink.process.send_signal(signal.SIGSTOP)  # or it would look for itself
            peer.show(peer.out, 3)
            text = text_of_rings(sink.process.pid)
            sink.process.send_signal(signal.SIGCONT)
    assert "3 wait in 16 slots; the master waits for interrupts, and none is pending" in text


def text_of_rings(master: int) -> str:
    return " ".join(finding.text for finding in rings.watch(master, [os.getpid()], 0.1))


def test_there_are_25_at_least() -> None:
    assert set(MADE) == set(FAULTS)
    assert len(FAULTS) >= 25


def test_each_has_advice() -> None:
    for text, advice in FAULTS.values():
        assert text.endswith(".")
        assert advice.endswith((".", ")"))
