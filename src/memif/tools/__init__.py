"""The command line tool ``memif``: one module a verb, loaded when it is called.

`options` has what all verbs share: the options that open an interface, and how results are printed.
"""

import sys

from memif.errors import MemifError


def main() -> None:
    """Entry point of ``memif`` and ``python -m memif``."""
    try:
        from memif.tools.cli import cli
    except ImportError as error:
        sys.exit(f"memif: {error.name} is missing: the command line needs pip install 'memif[cli]'")
    try:
        cli(prog_name="memif")
    except MemifError as error:
        print(f"memif: {error}", file=sys.stderr)
        sys.exit(1)
