"""How to test a program that uses memif: two ends in one process, a peer that
misbehaves, a check for leaks.

pytest examples/howto_testing.py
"""

# [program]
import memif


def echo(iface: memif.Interface, packets: int) -> None:
    """The program under test: sends back what it receives."""
    while packets > 0:
        with iface.rx[0].recv(256, timeout=1.0) as burst:
            packets -= iface.tx[0].forward(burst)


# [tests]
from memif.testing import HostilePeer, Step, leak_check, pair, unused_name  # noqa: E402


def test_echo_sends_back_what_it_gets() -> None:
    with leak_check(), pair(ring_size=64) as (master, slave):
        slave.tx[0].send([b"ping", bytes(9000)])
        echo(master, 2)
        with slave.rx[0].recv(256, timeout=1.0) as burst:
            assert burst.tobytes() == [b"ping", bytes(9000)]


def test_refuses_a_peer_that_announces_nonsense() -> None:
    name = unused_name()
    with leak_check(), memif.listen(name, id=0) as iface:
        with HostilePeer(name, idle=lambda: iface.socket.poll(0)) as peer:
            script = peer.script()  # a correct handshake, to be changed
            script["region"] = Step(bytes(128))  # message type 0 does not exist
            assert "unknown message type" in str(peer.play(script))
        assert not iface.up
