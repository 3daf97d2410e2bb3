"""icmp_responder of 18.07: a slave that answers ARP and ping for 192.168.1.2, with the library's own polling.

    python examples/libmemif/icmp_responder.py [TX-QUEUE]
    python examples/libmemif/icmp_responder.py --socket /tmp/m.sock 1

TX-QUEUE is the transmit queue for the answers (0). Ctrl-C ends the program. VPP's side:

    create interface memif id 0 master
    set interface state memif0/0 up
    set interface ip address memif0/0 192.168.1.1/24
"""

import argparse

from common import MEMIF_DEFAULT_SOCKET_PATH, check, info, say

from memif.console.connection import MemifConnection
from memif.console.exchange import respond
from memif.console.show import interface
from memif.libmemif import (
    LIBMEMIF_VERSION,
    MEMIF_ERR_SUCCESS,
    memif_cleanup,
    memif_conn_args_t,
    memif_conn_handle_t,
    memif_get_version,
    memif_init,
    memif_poll_event,
    memif_strerror,
)

BANNER = f"""\
LIBMEMIF EXAMPLE APP: ICMP_Responder
{"=" * 30}
libmemif version: {LIBMEMIF_VERSION}
memif version: {memif_get_version()}
\tuse CTRL+C to exit"""


class Responder(MemifConnection):
    """The one interface of this program."""

    def __init__(self, tx_queue: int) -> None:
        super().__init__(0)
        self._tx_queue = tx_queue

    def tx_qid(self, qid: int) -> int:
        """All answers go to the queue that the user chose."""
        return self._tx_queue

    def on_connect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """Give the peer its buffers, then show what is connected."""
        super().on_connect(conn, ctx)
        say("\n".join(["MEMIF DETAILS", "=" * 30, *interface(self)]))
        return 0


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tx_queue", nargs="?", type=int, default=0)
    parser.add_argument("-s", "--socket", default=MEMIF_DEFAULT_SOCKET_PATH)
    options = parser.parse_args()
    if not 0 <= options.tx_queue < 2:
        parser.error("TX-QUEUE: there are two, 0 and 1")
    info(f"tx qid: {options.tx_queue}")
    try:
        run(options)
    except KeyboardInterrupt:
        memif_cleanup()


def run(options: argparse.Namespace) -> None:
    """Answer until Ctrl-C."""
    say(BANNER)
    check("memif_init", memif_init(None, "ICMP_Responder", None, None))
    args = memif_conn_args_t(
        socket_filename=options.socket,
        interface_id=0,
        interface_name="memif_connection",
        log2_ring_size=10,
        buffer_size=2048,
        num_s2m_rings=2,
        num_m2s_rings=2,
    )
    check("memif_create", Responder(options.tx_queue).create(args, respond))
    while True:
        err = memif_poll_event(-1)
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_poll_event: {memif_strerror(err)}")


if __name__ == "__main__":
    main()
