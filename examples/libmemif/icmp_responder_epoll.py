"""icmp_responder-epoll of 18.07: the console, with an event loop of its own. The same as ``memif console``.

    python examples/libmemif/icmp_responder_epoll.py
    python examples/libmemif/icmp_responder_epoll.py --socket /tmp/m.sock

`help` lists the commands; `memif.console` is the program. Two of them ping each other:

    conn 0 1 0                                      (in one)
    conn 0 0 1                                      (in the other)
    send 0 2000000 192.168.1.1 aa:aa:aa:aa:aa:aa    (in the other)
"""

import sys

from console import main

from memif.console import Console

if __name__ == "__main__":
    sys.exit(main(Console, __doc__))
