"""The command line tool ``memif``: one module for each verb, loaded when it is called.

What the verbs share: `options` that open an interface, `values` that people type and read, `terminal` for progress,
results and the end, `transfer` for moving packets, `traffic` for generated packets, `files` for captures and filters.
"""

import sys


def main() -> None:
    """Entry point of ``memif`` and ``python -m memif``."""
    try:
        from memif.tools.cli import cli
    except ImportError as error:
        sys.exit(f"memif: {error.name} is missing: the command line needs pip install 'memif[cli]'")
    cli(prog_name="memif")
