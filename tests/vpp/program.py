"""The stand-in as a program that is started as VPP is: ``python -m vpp.program -c startup.conf``."""

import re
import signal
import sys
import threading

from vpp.server import ApiServer
from vpp.standin import StandIn


def main(option: str, file: str) -> None:
    """Run until SIGTERM, with the sockets that the configuration names."""
    assert option == "-c"
    with open(file) as source:
        config = source.read()
    folder = re.search(r"runtime-dir (\S+)", config)
    api = re.search(r"socksvr \{ socket-name (\S+) \}", config)
    assert folder is not None
    assert api is not None
    if "bad-section" in config:
        sys.exit("vpp: unknown input `bad-section'")
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    with ApiServer(api[1], StandIn(folder[1], retry=0.3)):
        end.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
