"""test_app of 4.0: two interfaces; what one receives the other sends. Ends when one of them is disconnected.

    python examples/libmemif/test_app.py -r master -s /tmp/m.sock -i 0 -t 1

-h lists the options.
"""

import sys

from common import MEMIF_DEFAULT_SOCKET_PATH, OneLinkConnection, Options, check, create_socket, poll_until_cancelled

from memif.console.connection import MemifConnection
from memif.console.exchange import frames, receive, transmit
from memif.libmemif import memif_conn_args_t

NAME = "test_app"
ABOUT = "Connects two interfaces; packets that one receives leave by the other. Ends when one is disconnected."
#: Seconds to wait for room in the other's ring.
PATIENCE = 1.0


def main() -> int:
    """-> exit status."""
    options = Options(
        NAME,
        ABOUT,
        {
            "r": ("Interface role <slave|master>.", "slave"),
            "s": ("Socket path, or @ and an abstract name.", MEMIF_DEFAULT_SOCKET_PATH),
            "i": ("Interface id.", "0"),
            "t": ("Interface id of the second.", "1"),
            "b": ("Buffer size, bytes.", "2048"),
        },
        help_letter="h",
    )
    options.parse(sys.argv[1:])
    master = options.master()
    sock = create_socket(options["s"], NAME, connect=not master)
    pair = (OneLinkConnection(0), OneLinkConnection(1))

    def forward(c: MemifConnection, qid: int) -> None:
        """Send on what came, if the other link is up."""
        other = pair[1 - c.index]
        receive(
            c,
            qid,
            lambda n: transmit(other, other.tx_qid(qid), frames(c, qid, c.rx_bufs[:n]), PATIENCE) if other.up else None,
        )

    for c, letter in zip(pair, "it", strict=True):
        args = memif_conn_args_t(
            socket=sock,
            interface_id=options.number(letter),
            interface_name=f"libmemif{c.index}",
            is_master=int(master),
            buffer_size=options.number("b"),
        )
        check("memif_create", c.create(args, forward))
    return poll_until_cancelled(sock, *pair)


if __name__ == "__main__":
    sys.exit(main())
