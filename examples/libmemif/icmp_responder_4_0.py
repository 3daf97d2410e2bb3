"""icmp_responder of 4.0: one interface, answers ARP and ping, a slave without copying; ends with the link.

    python examples/libmemif/icmp_responder_4_0.py -r master -s /tmp/m.sock -i 0 -a 192.168.1.1 -m 02:fe:00:00:00:01

-? lists the options.
"""

import sys

from common import (
    MEMIF_DEFAULT_SOCKET_PATH,
    OneLinkConnection,
    Options,
    check,
    create_socket,
    poll_until_cancelled,
    respond_in_place,
)

from memif.console.commands import parse_ip
from memif.console.exchange import respond
from memif.icmp import parse_mac
from memif.libmemif import memif_conn_args_t

NAME = "icmp_responder"
ABOUT = "Answers ARP and ICMP echo requests; a slave sends the buffers that it received. Ends when it is disconnected."


def main() -> int:
    """-> exit status."""
    options = Options(
        NAME,
        ABOUT,
        {
            "r": ("Interface role <slave|master>.", "slave"),
            "s": ("Socket path, or @ and an abstract name.", MEMIF_DEFAULT_SOCKET_PATH),
            "b": ("Buffer size, bytes.", "2048"),
            "h": ("Headroom, bytes in front of received packets.", "0"),
            "i": ("Interface id.", "0"),
            "a": ("IPv4 address.", "192.168.1.1"),
            "m": ("MAC address.", "aa:aa:aa:aa:aa:aa"),
        },
    )
    options.parse(sys.argv[1:])
    master, ip, mac = options.master(), parse_ip(options["a"]), parse_mac(options["m"])
    if ip is None or mac is None:
        sys.exit(f"{NAME}: -a takes an IPv4 address, -m a MAC address")
    c = OneLinkConnection(0, ip, mac, headroom=options.number("h", 0xFFFF))
    sock = create_socket(options["s"], NAME, connect=not master)
    args = memif_conn_args_t(
        socket=sock,
        interface_id=options.number("i"),
        interface_name="icmp_responder",
        is_master=int(master),
        buffer_size=options.number("b"),
    )
    check("memif_create", c.create(args, respond if master else respond_in_place))
    return poll_until_cancelled(sock, c)


if __name__ == "__main__":
    sys.exit(main())
