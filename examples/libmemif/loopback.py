"""loopback of 4.0: master and slave in one program; a packet goes there and back and is verified.

    python examples/libmemif/loopback.py [-r]

The master sends one packet of 2048 bytes, all 1; the slave sends the buffer back without copying. -r: the slave sends,
the master answers. -? lists the options. Exit status 0 if the packet came back unchanged.
"""

import sys

from common import OneLinkConnection, Options, check, create_socket, info, poll_until_cancelled

from memif.console.connection import MemifConnection
from memif.console.exchange import frames, receive, send_in_place, transmit
from memif.libmemif import memif_cancel_poll_event, memif_conn_args_t, memif_conn_handle_t, memif_get_socket_handle

NAME = "loopback_example"
ABOUT = "Two interfaces are connected to each other. One sends a packet, the other sends it back."
PACKET = b"\x01" * 2048


class End(OneLinkConnection):
    """One of the two; the one with a `peer` sends the packet once both are up."""

    good = False
    peer: "End | None" = None

    def on_connect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """Send when the second of the two comes up."""
        super().on_connect(conn, ctx)
        for end in (self, ends[1 - self.index]):
            if end.peer is not None and end.up and end.peer.up:
                transmit(end, 0, [PACKET])
        return 0


def verify(c: MemifConnection, qid: int) -> None:
    """The packet is back."""
    assert isinstance(c, End)

    def handle(n: int) -> None:
        c.good = frames(c, qid, c.rx_bufs[:n]) == [PACKET]

    receive(c, qid, handle)
    info("Received correct data." if c.good else "Received malformed data.")
    info("Stopping the program")
    assert c.conn is not None
    sock = memif_get_socket_handle(c.conn)
    assert sock is not None
    memif_cancel_poll_event(sock)


def send_back(c: MemifConnection, qid: int) -> None:
    """A slave sends the buffers themselves, a master copies."""
    slave = c.index == 1
    receive(
        c,
        qid,
        lambda n: send_in_place(c, qid, c.rx_bufs[:n]) if slave else transmit(c, qid, frames(c, qid, c.rx_bufs[:n])),
    )


ends = (End(0), End(1))  # master, slave


def main() -> int:
    """-> exit status."""
    options = Options(NAME, ABOUT, {"r": ("Reverse: the slave sends the packet.", None)})
    options.parse(sys.argv[1:])
    source, mirror = reversed(ends) if options.given("r") else ends
    source.peer = mirror
    sock = create_socket(f"@{NAME}", NAME, connect=True)
    for c in ends:
        args = memif_conn_args_t(socket=sock, interface_name=f"lo{c.index}", is_master=int(c.index == 0))
        check("memif_create", c.create(args, verify if c is source else send_back))
    return poll_until_cancelled(sock, *ends) or int(not source.good)


if __name__ == "__main__":
    sys.exit(main())
