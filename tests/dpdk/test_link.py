"""The link to testpmd: who may connect, and what happens when either side ends, in order or by kill -9."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import memif
from ends import Child, pump, receive
from memif import ErrorCode
from patience import within
from peers.end import THEIRS, link, settle
from peers.testpmd import Testpmd, TestpmdError, poll_until

pytestmark = pytest.mark.dpdk

Factory = Callable[..., Testpmd]
FRAME = bytes(range(64))
ROLES = pytest.mark.parametrize("role", ["master", "slave"])


def echoed(iface: memif.Interface, peer: Testpmd) -> None:
    """AssertionError unless a frame comes back from a testpmd that forwards between the two directions."""
    with peer.forwarding():
        assert iface.tx[0].wait_free(1, timeout=5.0)
        assert iface.tx[0].send([FRAME]) == 1
        assert receive(iface.rx[0], 1) == [FRAME]


def wait_down(iface: memif.Interface) -> None:
    pump(iface, until=lambda: not iface.up, timeout=10.0)


def wait_up(iface: memif.Interface, peer: Testpmd) -> None:
    iface.wait_up(10.0)
    peer.wait_link(10.0)


# -- who may connect


@ROLES
@pytest.mark.parametrize("secret", ["s", "x" * 23])
def test_right_secret(socket_path: str, testpmd: Factory, role: str, secret: str) -> None:
    with link(socket_path, role, testpmd, ours={"secret": secret, "id": 77}, secret=secret, id=77) as (iface, peer):
        echoed(iface, peer)


@pytest.mark.parametrize(
    ("secret", "text", "code"),
    [(b"wrong", "Incorrect secret", ErrorCode.SECRET), (None, "Secret required", ErrorCode.NOSECRET)],
)
def test_server_refuses_a_secret(
    socket_path: str, testpmd: Factory, secret: bytes | None, text: str, code: ErrorCode
) -> None:
    testpmd("server", secret="right")
    start = time.monotonic()
    with pytest.raises(memif.MemifRefusedError, match=f"{text.lower()} for interface 0") as caught:
        memif.connect(socket_path, secret=secret, timeout=10.0)
    assert (caught.value.code, caught.value.reason) == (code, text)
    assert time.monotonic() - start < within(5.0)  # there is no point in waiting


def refused(master: memif.Interface, client: Testpmd) -> str:
    """Serve the client's attempt and return what testpmd logged about its end."""
    pump(master, until=lambda: "Disconnect received" in client.log, timeout=10.0)
    assert not master.up
    return client.log.rpartition("Disconnect received: ")[2].splitlines()[0]


CLIENTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"secret": "right"}, {"secret": "wrong"}, "incorrect secret"),
    ({"secret": "right"}, {}, "secret required"),
    ({"id": 1}, {"id": 2}, "unmatched interface id"),
    ({"mode": "ip"}, {}, "mode mismatch: the master is ip, the slave ethernet"),
]


@pytest.mark.parametrize(("ours", "theirs", "text"), CLIENTS, ids=[text for _, _, text in CLIENTS])
def test_client_is_refused(
    socket_path: str, testpmd: Factory, ours: dict[str, Any], theirs: dict[str, Any], text: str
) -> None:
    with memif.listen(socket_path, **ours) as master:
        assert refused(master, testpmd("client", tolerate_crash=True, **theirs)) == text


def test_client_offers_as_many_rings_as_hello_allows(socket_path: str, testpmd: Factory) -> None:
    with memif.listen(socket_path, rx_queues=1) as master:
        testpmd("client", tolerate_crash=True, queues=2)
        pump(master, until=lambda: master.up, timeout=10.0)
        assert (len(master.rx), len(master.tx)) == (1, 2)


SERVERS: list[tuple[dict[str, Any], str]] = [
    ({"id": 5}, "ID not found"),
    ({"mode": "ip"}, "Only ethernet mode supported"),
    ({"tx_queues": 2}, "Invalid ring index"),
    ({"rx_queues": 2}, "Invalid ring index"),
]


@pytest.mark.parametrize(("ours", "text"), SERVERS)
def test_server_refuses(socket_path: str, testpmd: Factory, ours: dict[str, Any], text: str) -> None:
    server = testpmd("server")
    with memif.Socket(socket_path) as sock:
        slave = sock.interface(**ours)
        pump(sock, until=lambda: slave.disconnect_reason is not None)
        assert slave.disconnect_reason == text
        # Nothing is spoilt by that.
        slave.close()
        sock.interface().wait_up(5.0)
        server.wait_link()
    settle(server)


def test_second_client_of_ours(socket_path: str, testpmd: Factory) -> None:
    with link(socket_path, "slave", testpmd) as (first, peer), memif.Socket(socket_path) as sock:
        second = sock.interface(reconnect=0.05)
        pump(sock, until=lambda: second.disconnect_reason is not None)
        assert second.disconnect_reason == "Already connected"
        echoed(first, peer)
        first.close()
        second.wait_up(5.0)
        echoed(second, peer)
        second.close()


def test_second_testpmd(socket_path: str, testpmd: Factory) -> None:
    with link(socket_path, "master", testpmd) as (master, first):
        second = testpmd("client", tolerate_crash=True)
        pump(master, until=lambda: "Disconnect received: already connected" in second.log)
        echoed(master, first)
        first.quit()
        wait_down(master)
        second.reconnect()
        wait_up(master, second)
        echoed(master, second)


# -- what each learns of the other


@ROLES
def test_names(socket_path: str, testpmd: Factory, role: str) -> None:
    with link(socket_path, role, testpmd, ours={"name": "python"}) as (iface, peer):
        assert iface.peer is not None
        assert iface.peer.name == "net_memif0"
        assert "DPDK" in iface.peer.app_name
        assert iface.peer.pid == peer.pid
        assert "python" in peer.log


@ROLES
def test_disconnect_reasons(socket_path: str, testpmd: Factory, role: str) -> None:
    with link(socket_path, role, testpmd) as (iface, peer):
        iface.disconnect("gone to lunch")
        assert poll_until(lambda: "Disconnect received: gone to lunch" in peer.log, 5.0)
    with link(socket_path, role, testpmd) as (iface, peer):
        peer.quit()
        wait_down(iface)
        # DPDK 22.11 has a text for the end of a device, but stops it first, and that hangs up without one.
        assert iface.disconnect_reason in ("Device closed", "peer hung up without a reason")
        with pytest.raises(memif.MemifDisconnectedError, match=iface.disconnect_reason):
            iface.tx[0].send([FRAME])


# -- restarts


def test_our_slave_finds_a_restarted_server(socket_path: str, testpmd: Factory) -> None:
    with link(socket_path, "slave", testpmd, ours={"reconnect": 0.2}) as (iface, first):
        echoed(iface, first)
        first.quit()
        wait_down(iface)
        second = testpmd("server")
        wait_up(iface, second)
        echoed(iface, second)
        assert iface.stats["connects"] == 2
        second.quit()


def test_our_master_takes_a_restarted_client(socket_path: str, testpmd: Factory) -> None:
    with link(socket_path, "master", testpmd) as (iface, first):
        echoed(iface, first)
        first.quit()
        wait_down(iface)
        for zero_copy in (True, False):
            again = testpmd("client", zero_copy=zero_copy)
            wait_up(iface, again)
            echoed(iface, again)
            again.quit()
            wait_down(iface)
        assert iface.stats["connects"] == iface.stats["disconnects"] == 3


def test_a_server_takes_our_slave_again(socket_path: str, testpmd: Factory) -> None:
    server = testpmd("server")
    for ring_size in (64, 1024, 256):
        with memif.connect(socket_path, ring_size=ring_size) as iface:
            wait_up(iface, server)
            echoed(iface, server)
        settle(server)


def test_a_client_finds_our_master_again(socket_path: str, testpmd: Factory) -> None:
    with memif.listen(socket_path) as iface:
        client = testpmd("client")
        wait_up(iface, client)
        echoed(iface, client)
    settle(client)
    with memif.listen(socket_path) as iface:
        client.reconnect()
        wait_up(iface, client)
        echoed(iface, client)
    settle(client)


# -- kill -9


@ROLES
def test_kill9_of_testpmd(socket_path: str, testpmd: Factory, role: str) -> None:
    """While packets flow; what it leaves behind does not hinder the next."""
    ours = {"reconnect": 0.1} if role == "slave" else {}
    settings = {"forward": "txonly"}
    with link(socket_path, role, testpmd, ours=ours, **settings) as (iface, first):
        first.start()
        assert len(receive(iface.rx[0], 500)) == 500
        first.kill9()
        with pytest.raises(memif.MemifDisconnectedError) as caught:
            receive(iface.rx[0], 1 << 30)
        assert "interface" not in str(caught.value.__cause__)
        assert not iface.up
        again = testpmd(THEIRS[role])
        wait_up(iface, again)
        echoed(iface, again)


def end_of_link(path: str, role: str) -> Iterator[int]:
    """In the child: echo for ever."""
    with memif.listen(path) if role == "master" else memif.connect(path) as iface:
        iface.wait_up(10.0)
        done = 0
        yield done
        while True:
            with iface.rx[0].recv(32) as burst:
                iface.tx[0].forward(burst)
                done += len(burst)
            if done >= 1000:
                yield done
                done = -(1 << 40)


@ROLES
def test_kill9_of_our_side(socket_path: str, testpmd: Factory, role: str) -> None:
    """testpmd may crash when its peer vanishes; else it serves the next one."""
    settings = {"forward": "txonly", "tolerate_crash": True}
    server = testpmd("server", **settings) if role == "slave" else None
    with Child(end_of_link, socket_path, role) as child:
        if server is None:
            assert poll_until(lambda: os.path.exists(socket_path), 5.0)
        peer = server or testpmd("client", **settings)
        assert child.tells() == 0
        peer.start()
        assert child.tells() >= 1000
        child.kill9()
    peer = survivor(peer, testpmd, role)
    # Our socket's file is still there when we were master: the next master takes its place.
    with memif.listen(socket_path) if role == "master" else memif.connect(socket_path) as iface:
        if role == "master":
            peer.reconnect()
        wait_up(iface, peer)
        echoed_among_others(iface, peer)
    settle(peer)


def survivor(peer: Testpmd, testpmd: Factory, role: str) -> Testpmd:
    """The testpmd, with its link down, or another one if it has crashed."""
    try:
        peer.stop()
        peer.wait_link(up=False)
        peer.command("set fwd io")
    except TestpmdError:
        if peer.alive:
            raise
        return testpmd(THEIRS[role])
    return peer


def echoed_among_others(iface: memif.Interface, peer: Testpmd) -> None:
    """As `echoed`, for a testpmd that may still have had something to send."""
    with peer.forwarding():
        assert iface.tx[0].wait_free(1, timeout=5.0)
        assert iface.tx[0].send([FRAME]) == 1
        deadline = time.monotonic() + within(5.0)
        while FRAME not in receive(iface.rx[0], 32, timeout=0.1):
            assert time.monotonic() < deadline


@ROLES
def test_a_paused_peer_is_waited_for(socket_path: str, testpmd: Factory, role: str) -> None:
    """A frozen testpmd looks like a slow one: rings fill up, nothing is lost, nothing hangs."""
    with link(socket_path, role, testpmd) as (iface, peer), peer.forwarding():
        peer.pause()
        try:
            sent = 0
            while n := iface.tx[0].send([FRAME] * 100):
                sent += n
            assert sent == 1024
            start = time.monotonic()
            with iface.rx[0].recv(1, timeout=0.2) as burst:
                assert not burst
            assert 0.2 <= time.monotonic() - start < within(1.0)
            assert not iface.tx[0].wait_free(1, timeout=0.1)
        finally:
            peer.resume()
        assert receive(iface.rx[0], 1024) == [FRAME] * 1024
