"""The command line of the examples that are consoles: ``[--socket PATH]``."""

import argparse
import os

from common import MEMIF_DEFAULT_SOCKET_PATH

from memif.console import Console, run


def main(console: type[Console], about: str | None) -> int:
    """Run a console on the socket of the command line, of MEMIF_SOCKET, or the default. -> exit status."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-s", "--socket", default=os.environ.get("MEMIF_SOCKET", MEMIF_DEFAULT_SOCKET_PATH))
    try:
        return run(console(parser.parse_args().socket))
    except KeyboardInterrupt:
        return 130
