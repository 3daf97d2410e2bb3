"""Interface: what both ends learn of each other, refusals, reconnecting, and the end."""

import dataclasses
import os
import threading
import time
from typing import Any

import pytest

import memif
from ends import all_up, linked, pump, receive
from memif import ErrorCode
from patience import within

# -- what it shows


def test_details_of_both_ends(socket_path: str) -> None:
    common = {"id": 5, "secret": "s3cret", "mode": "ip"}
    with linked(
        socket_path,
        master={"name": "vpp-like"},
        slave={"name": "py", "rx_queues": 2, "tx_queues": 3, "ring_size": 64, "buffer_size": 512},
        **common,
    ) as (master, slave):
        pid, uid, gid = os.getpid(), os.geteuid(), os.getegid()
        theirs, ours = master.details(), slave.details()
        assert (ours.name, ours.app_name, ours.id, ours.role, ours.mode) == ("py", "slave's app", 5, "slave", "ip")
        assert (theirs.name, theirs.app_name, theirs.role) == ("vpp-like", "master's app", "master")
        assert ours.socket == theirs.socket == socket_path
        assert ours.secret == b"s3cret"
        assert "s3cret" not in repr(ours)
        assert ours.link_up
        assert ours.peer == slave.peer == memif.Peer("master's app", "vpp-like", pid, uid, gid)
        assert theirs.peer == master.peer == memif.Peer("slave's app", "py", pid, uid, gid)
        assert ours.disconnect_reason is None
        assert [q.qid for q in ours.tx_queues] == [q.qid for q in theirs.rx_queues] == [0, 1, 2]
        assert [q.qid for q in ours.rx_queues] == [q.qid for q in theirs.tx_queues] == [0, 1]
        for queue in ours.rx_queues + ours.tx_queues + theirs.tx_queues:
            assert (queue.region, queue.ring_size, queue.buffer_size, queue.flags) == (0, 64, 512, 0)
        assert [(q.head, q.tail) for q in theirs.tx_queues] == [(64, 0), (64, 0)]
        assert [(r.index, r.external) for r in ours.regions] == [(0, False)]
        assert ours.regions[0].size == theirs.regions[0].size >= 5 * 64 * (16 + 512)
        for region in ours.regions + theirs.regions:
            assert os.fstat(region.fd).st_size >= region.size


def test_details_follow_the_rings(socket_path: str) -> None:
    with linked(socket_path, slave={"ring_size": 16}) as (master, slave):
        slave.tx[0].send([b"x" * 60] * 5)
        assert slave.details().tx_queues[0].head == 5
        assert master.details().rx_queues[0].tail == 0
        receive(master.rx[0], 5)
        assert master.details().rx_queues[0].tail == slave.details().tx_queues[0].tail == 5


def test_details_while_down(socket_path: str) -> None:
    with memif.listen(socket_path, name="lonely") as master:
        details = master.details()
        assert not details.link_up
        assert details.peer is None
        assert (details.rx_queues, details.tx_queues, details.regions) == ((), (), ())
        assert dataclasses.asdict(details)["name"] == "lonely"


def test_stats(socket_path: str) -> None:
    with linked(socket_path, slave={"ring_size": 16, "tx_queues": 2}) as (master, slave):
        assert slave.tx[1].send([b"x" * 100] * 20) == 16
        assert len(receive(master.rx[1], 16)) == 16
        sent, received = slave.stats["tx"][1], master.stats["rx"][1]
        assert (sent["packets"], sent["bytes"], sent["bursts"], sent["ring_full"]) == (16, 1600, 1, 4)
        assert (received["packets"], received["bytes"], received["dropped_bad"]) == (16, 1600, 0)
        assert sent["interrupts_sent"] == 1
        assert slave.tx[1].stats == sent
        assert slave.stats["tx"][0]["packets"] == master.stats["rx"][0]["packets"] == 0
        assert (slave.stats["connects"], slave.stats["disconnects"], slave.stats["refused"]) == (1, 0, 0)


def test_interrupts_are_counted(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        for _ in range(3):
            assert not master.rx[0].wait(0.0)  # asks for an interrupt
            slave.tx[0].send([b"x"])
            timer = threading.Timer(0.02, slave.tx[0].send, [[b"y"]])
            receive(master.rx[0], 1)
            timer.start()
            assert receive(master.rx[0], 1) == [b"y"]
            timer.join()
        assert slave.stats["tx"][0]["interrupts_sent"] == 6
        assert 1 <= master.stats["rx"][0]["interrupts_received"] <= 6


def test_stats_go_on_through_reconnects(socket_path: str) -> None:
    with linked(socket_path, slave={"reconnect": 0.01}) as (master, slave):
        for times in (1, 2):
            slave.tx[0].send([b"x"] * 3)
            assert len(receive(master.rx[0], 3)) == 3
            assert slave.stats["tx"][0]["packets"] == master.stats["rx"][0]["packets"] == 3 * times
            assert (slave.stats["connects"], slave.stats["disconnects"]) == (times, times - 1)
            slave.disconnect("again")
            pump(master, until=lambda: not master.up)
            all_up(master, slave)


def test_repr(socket_path: str) -> None:
    with linked(socket_path, id=4) as (master, slave):
        assert "'memif4' id 4, master" in repr(master)
        assert repr(slave).endswith("up>")
        slave.close()
        assert repr(slave).endswith("closed>")
        pump(master, until=lambda: not master.up)
        assert repr(master).endswith("down>")


# -- modes


@pytest.mark.parametrize("mode", ["ethernet", "ip", "punt/inject"])
def test_modes(socket_path: str, mode: str) -> None:
    """Packets pass as they are, whatever they are said to be, from one byte on."""
    with linked(socket_path, mode=mode) as (master, slave):
        assert master.mode == slave.mode == mode
        packets = [b"\x45", b"\x60" * 20, bytes(range(64))]
        for source, target in ((slave.tx[0], master.rx[0]), (master.tx[0], slave.rx[0])):
            assert source.wait_free(3, timeout=1.0)
            assert source.send(packets) == 3
            assert receive(target, 3) == packets


# -- refusals

REFUSALS: list[tuple[dict[str, Any], dict[str, Any], str, ErrorCode]] = [
    ({"secret": b"right"}, {"secret": b"wrong"}, "incorrect secret", ErrorCode.SECRET),
    ({"secret": b"right"}, {"secret": b"right "}, "incorrect secret", ErrorCode.SECRET),
    ({"secret": b"right"}, {}, "secret required", ErrorCode.NOSECRET),
    ({"mode": "ip"}, {}, "mode mismatch", ErrorCode.MODE),
    ({}, {"mode": "punt/inject"}, "mode mismatch", ErrorCode.MODE),
]


@pytest.mark.parametrize(("master", "slave", "text", "code"), REFUSALS)
def test_refused_for_good(
    socket_path: str, master: dict[str, Any], slave: dict[str, Any], text: str, code: ErrorCode
) -> None:
    """`connect` does not wait for its timeout: nothing would change."""
    with memif.listen(socket_path, **master) as listening:
        thread = threading.Thread(target=lambda: listening.socket.poll(5.0) and listening.socket.poll(5.0))
        thread.start()
        start = time.monotonic()
        with pytest.raises(memif.MemifRefusedError, match=text) as caught:
            memif.connect(socket_path, timeout=10.0, **slave)
        assert time.monotonic() - start < within(5.0)
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.code is code
        thread.join()
        while listening.socket.poll(0.05):
            pass
        assert not listening.up


def test_a_secret_that_is_not_asked_for_does_no_harm(socket_path: str) -> None:
    with linked(socket_path, slave={"secret": "for nobody"}):
        pass
    with linked(socket_path, secret="x" * 23):
        pass


def wait_for_reason(slave: memif.Interface, *others: memif.Interface) -> str:
    pump(slave, *others, until=lambda: slave.disconnect_reason is not None)
    return str(slave.disconnect_reason)


def test_unknown_id(socket_path: str) -> None:
    with memif.listen(socket_path, id=1) as master, memif.Socket(socket_path) as connecting:
        slave = connecting.interface(id=2)
        assert wait_for_reason(slave, master) == "unmatched interface id"
        # It may be created later, so this goes on.
        late = master.socket.interface(id=2, role="master")
        all_up(late, slave)


def test_id_of_a_slave(socket_path: str) -> None:
    with memif.listen(socket_path, id=1) as master, memif.Socket(socket_path) as connecting:
        slave = connecting.interface(id=2)
        master.socket.interface(id=2, role="slave", reconnect=None)
        assert wait_for_reason(slave, master) == "cannot connect to slave"


def test_busy_id(socket_path: str) -> None:
    with linked(socket_path) as (master, slave), memif.Socket(socket_path) as connecting:
        second = connecting.interface(reconnect=0.02)
        assert wait_for_reason(second, master) == "already connected"
        assert master.up
        assert master.peer == memif.Peer("slave's app", "memif0", os.getpid(), os.geteuid(), os.getegid())
        assert slave.tx[0].send([b"first"]) == 1
        assert receive(master.rx[0], 1) == [b"first"]
        slave.close()
        all_up(master, second)


@pytest.mark.parametrize("queues", [{"tx_queues": 3}, {"rx_queues": 3}])
def test_more_queues_than_the_master_takes(socket_path: str, queues: dict[str, int]) -> None:
    with memif.listen(socket_path, rx_queues=2, tx_queues=2) as master, memif.Socket(socket_path) as connecting:
        # HELLO speaks for all interfaces of the socket, so this one makes it promise more than the other keeps.
        master.socket.interface(role="master", id=1)
        slave = connecting.interface(**queues)
        assert "ring" in wait_for_reason(slave, master)
        assert not master.up
        slave.close()
        all_up(master, connecting.interface(rx_queues=2, tx_queues=1))
        assert (len(master.rx), len(master.tx)) == (1, 2)


def test_regions_above_the_limit(socket_path: str) -> None:
    with memif.listen(socket_path, max_region_bytes=1 << 20) as master, memif.Socket(socket_path) as connecting:
        slave = connecting.interface()
        assert "region" in wait_for_reason(slave, master)
        slave.close()
        all_up(master, connecting.interface(ring_size=16))


# -- waiting for the link


def test_wait_up_tells_what_was_wrong_last(socket_path: str) -> None:
    with pytest.raises(
        memif.MemifTimeoutError, match=r"^there is no socket .*start the listening side.* \(waited 0\.1 s\)$"
    ) as caught:
        memif.connect(socket_path, timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, memif.MemifFileNotFoundError)
    with memif.listen(socket_path, id=3) as master:
        with pytest.raises(memif.MemifTimeoutError, match=r"^no client asked for id 3 on .* \(waited 0\.05 s\)$"):
            master.wait_up(0.05)
        with pytest.raises(memif.MemifTimeoutError):
            master.wait_up(0)


def test_connect_waits_for_the_master(socket_path: str) -> None:
    masters: list[memif.Interface] = []

    def listen() -> None:
        time.sleep(0.15)
        masters.append(memif.listen(socket_path))
        masters[0].wait_up(5.0)

    thread = threading.Thread(target=listen)
    thread.start()
    with memif.connect(socket_path, timeout=5.0) as slave:
        assert slave.up
        thread.join()
        masters[0].close()


@pytest.mark.parametrize("timeout", [0.1, 0.5])
def test_timeout_of_connect(socket_path: str, timeout: float) -> None:
    start = time.monotonic()
    with pytest.raises(memif.MemifTimeoutError):
        memif.connect(socket_path, timeout=timeout)
    assert timeout <= time.monotonic() - start < within(timeout + 0.3)


def test_single_attempt(socket_path: str) -> None:
    with pytest.raises(memif.MemifFileNotFoundError, match="start the listening side"):
        memif.connect(socket_path, reconnect=None)
    with memif.listen(socket_path, id=1) as master:
        thread = threading.Thread(target=lambda: pump(master, until=lambda: master.socket.stats["accepted"]))
        thread.start()
        with pytest.raises(memif.MemifTimeoutError):
            memif.connect(socket_path, reconnect=None, id=1, timeout=0.0)
        thread.join()


# -- reconnecting


def test_reconnect_period(socket_path: str) -> None:
    """A lost master is looked for at once, then less and less often, never less than once in a period."""
    with linked(socket_path, slave={"reconnect": 0.2}) as (master, slave):
        path = master.socket.address
        master.socket.close()
        pump(slave, until=lambda: not slave.up)
        time.sleep(0.3)
        while slave.socket.poll(0):
            pass
        with memif.listen(path) as again:
            start = time.monotonic()
            all_up(again, slave)
            assert time.monotonic() - start < within(0.4)
        assert slave.stats["connects"] == 2


def test_reconnect_by_hand(socket_path: str) -> None:
    with memif.Socket(socket_path) as connecting:
        slave = connecting.interface(reconnect=None)
        assert connecting.poll(0.05) is False
        with pytest.raises(memif.MemifFileNotFoundError):
            slave.connect()
        with memif.listen(socket_path) as master:
            slave.connect()
            all_up(master, slave)
            with pytest.raises(memif.MemifStateError, match="connected already"):
                slave.connect()
            with pytest.raises(memif.MemifStateError, match="waits for its client"):
                master.connect()
            slave.disconnect()
            pump(master, until=lambda: not master.up)
            assert slave.socket.poll(0.2) is False
            assert not slave.up
            slave.connect()
            all_up(master, slave)


def test_refused_slave_tries_again(socket_path: str) -> None:
    """What is wrong may be put right at the other end; only waiting for it is given up."""
    with memif.Socket(socket_path) as listening, memif.Socket(socket_path) as connecting:
        strict = listening.interface(role="master", secret="x")
        slave = connecting.interface(reconnect=0.05)
        pump(listening, connecting, until=lambda: strict.stats["refused"] or slave.stats["refused"] > 1)
        strict.close()
        all_up(listening.interface(role="master"), slave)


# -- the end


@pytest.mark.parametrize("closer", ["master", "slave"])
def test_disconnect_reason(socket_path: str, closer: str) -> None:
    with linked(socket_path, slave={"reconnect": 30}) as (master, slave):
        this, other = (master, slave) if closer == "master" else (slave, master)
        this.disconnect("maintenance at noon")
        assert not this.up
        assert this.disconnect_reason == "maintenance at noon"
        pump(other, until=lambda: not other.up)
        assert other.disconnect_reason == "maintenance at noon"
        with pytest.raises(memif.MemifDisconnectedError, match="maintenance at noon") as caught:
            other.tx[0].send([b"x"])
        assert isinstance(caught.value, ConnectionError)
        other.disconnect("nobody hears this")
        assert other.disconnect_reason == "maintenance at noon"


@pytest.mark.parametrize("reason", ["x", "x" * 95, "x" * 96, "é" * 60, "a\0b"])
def test_any_reason_can_be_given(socket_path: str, reason: str) -> None:
    """What does not fit is cut off, between two characters."""
    with linked(socket_path) as (master, slave):
        slave.disconnect(reason)
        pump(master, until=lambda: not master.up)
        assert master.disconnect_reason == slave.disconnect_reason
        assert master.disconnect_reason == reason.partition("\0")[0].encode()[:95].decode(errors="ignore")


def test_no_reason(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        assert (slave.disconnect_reason, master.disconnect_reason) == (
            "disconnected",
            "peer disconnected without a reason",
        )


def test_close(socket_path: str) -> None:
    with linked(socket_path) as (master, slave):
        rx, tx = slave.rx[0], slave.tx[0]
        slave.close()
        slave.close()
        assert slave.closed
        assert not slave.up
        for call in (rx.recv, lambda: rx.recv(timeout=0), rx.wait, rx.fileno, lambda: tx.send([b"x"]),
                     lambda: tx.alloc(1), tx.free, tx.wait_free, slave.wait_up, slave.connect):  # fmt: skip
            with pytest.raises(memif.MemifClosedError, match="closed"):
                call()
        with pytest.raises(memif.MemifClosedError), slave:
            pass
        assert slave.details().name == "memif0"
        assert slave.stats["connects"] == 1
        assert not slave.socket.interfaces
        pump(master, until=lambda: not master.up)
        assert master.disconnect_reason == "interface deleted"


def test_queues_stay_the_same_objects(socket_path: str) -> None:
    with linked(socket_path, slave={"reconnect": 0.01}) as (master, slave):
        queue = master.rx[0]
        queue.mode = "adaptive"
        slave.disconnect()
        pump(master, until=lambda: not master.up)
        assert (len(master.rx), master.rx[0]) == (1, queue)
        with pytest.raises(memif.MemifDisconnectedError):
            queue.recv(timeout=0)
        all_up(master, slave)
        assert master.rx[0] is queue
        assert queue.mode == "adaptive"
        slave.tx[0].send([b"new"])
        assert receive(queue, 1) == [b"new"]


def test_queue_count_follows_the_slave(socket_path: str) -> None:
    with memif.listen(socket_path) as master, memif.Socket(socket_path) as connecting:
        for tx, rx in ((3, 1), (1, 2), (4, 4)):
            slave = connecting.interface(tx_queues=tx, rx_queues=rx)
            all_up(master, slave)
            assert (len(master.rx), len(master.tx)) == (tx, rx)
            slave.tx[-1].send([b"last"])
            assert receive(master.rx[-1], 1) == [b"last"]
            slave.close()
            pump(master, until=lambda: not master.up)
        assert len(master.stats["rx"]) == 4


def test_views_outlive_the_link(socket_path: str) -> None:
    """A view taken before the disconnect stays readable; so does what numpy looks at."""
    with linked(socket_path) as (master, slave):
        slave.tx[0].send([b"still here" * 6])
        burst = master.rx[0].recv(1, timeout=1.0)
        view, lengths = burst[0], burst.lengths
        slave.close()
        pump(master, until=lambda: not master.up)
        assert bytes(view) == b"still here" * 6
        assert lengths.tolist() == [60]
        assert burst.tobytes() == [b"still here" * 6]
        with pytest.raises(memif.MemifDisconnectedError):
            master.tx[0].forward(burst)
        burst.release()
        view.release()
