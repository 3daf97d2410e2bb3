"""The handlers of handlers.c, compiled once."""

import ctypes
import functools
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from peers.settings import missing


@functools.cache
def handlers() -> ctypes.CDLL:
    """The library of handlers."""
    compiler = shutil.which("cc") or shutil.which((sysconfig.get_config_var("CC") or "gcc").split()[0])
    if compiler is None:
        missing("a C compiler is missing: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "handlers.so"
        source = Path(__file__).with_name("handlers.c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        return ctypes.CDLL(str(library))
