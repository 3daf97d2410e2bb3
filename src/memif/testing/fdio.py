"""FD.io VPP as the far end of a memif: a process with a configuration of its own, for tests.

It needs no huge pages and no network card, loads only the plugins for memif and ping, and keeps all its files in one
folder, so that it runs beside any other VPP.
"""

import contextlib
import grp
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from memif.config import seconds
from memif.errors import MemifError, MemifFileNotFoundError, MemifTimeoutError
from memif.vpp import Vpp, VppError

#: Names the program, and after a colon the folder of its plugins if VPP does not find that by itself.
VARIABLE: Final = "MEMIF_VPP"

_CONFIG: Final = """\
unix {{
  nodaemon poll-sleep-usec 100 gid {group}
  log {folder}/vpp.log cli-listen {folder}/cli.sock runtime-dir {folder}
}}
memory {{ main-heap-size 512M main-heap-page-size default }}
buffers {{ page-size default buffers-per-numa 16384 }}
api-segment {{ prefix {prefix} }}
socksvr {{ socket-name {folder}/api.sock }}
statseg {{ size 32m socket-name {folder}/stats.sock }}
plugins {{
  {plugins}
  plugin default {{ disable }}
  plugin memif_plugin.so {{ enable }}
  plugin ping_plugin.so {{ enable }}
}}
{more}
"""


class VppProcess:
    """One VPP. Context manager: it runs inside of the block.

    Args:
        program: The ``vpp`` program; after a colon the folder of its plugins if VPP does not find that by itself. None:
            what MEMIF_VPP names, else the ``vpp`` on the path.
        config: More sections of its ``startup.conf``.
        timeout: Seconds for its start and its end, each.

    Attributes:
        folder: Where its sockets and logs are. Its memif sockets have their default place there, too.

    Raises:
        MemifFileNotFoundError: There is no VPP.
    """

    folder: Path

    def __init__(self, program: str | None = None, *, config: str = "", timeout: float = 20.0) -> None:
        named = program or os.environ.get(VARIABLE) or shutil.which("vpp") or ""
        self._program, _, plugins = named.partition(":")
        if shutil.which(self._program) is None:
            raise MemifFileNotFoundError(
                f"no VPP at {self._program!r}: set {VARIABLE}=/path/of/vpp:/path/of/its/plugins, or install vpp"
            )
        self._timeout = seconds("timeout", timeout, none=False) or 0.0
        self._config, self._plugins = config, f"path {plugins}" if plugins else ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="vpp", dir="/tmp"))
        try:
            config = _CONFIG.format(
                folder=self.folder,
                group=grp.getgrgid(os.getgid()).gr_name,
                prefix=self.folder.name,
                plugins=self._plugins,
                more=self._config,
            )
            (self.folder / "startup.conf").write_text(config)
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.log:
            error.add_note(f"log of VPP:\n{self.log[-4000:]}")
        self._end()

    def start(self) -> None:
        """Start it, also again after `stop` or `kill9`; return when its API answers.

        Raises:
            MemifTimeoutError: It does not answer in time.
            VppError: It has ended; the text has its log.
        """
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self.folder / "startup.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                self.connect().close()
                return
            except MemifError as error:
                if self._process.poll() is not None:
                    status = self._process.returncode
                    raise VppError(f"VPP has ended with status {status}\n{self.log[-4000:]}") from error
                if time.monotonic() > deadline:
                    raise MemifTimeoutError(f"VPP does not answer after {self._timeout:g} s\n{self.log}") from error
            time.sleep(0.02)

    @property
    def api_socket(self) -> str:
        """Path of its API socket, for `memif.vpp.Vpp`."""
        return str(self.folder / "api.sock")

    @property
    def memif_socket(self) -> str:
        """Path of its default memif socket, number 0."""
        return str(self.folder / "memif.sock")

    @property
    def log(self) -> str:
        """What it has printed and logged so far."""
        files = [self.folder / name for name in ("output", "vpp.log")]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def connect(self) -> Vpp:
        """Return a connection to its API."""
        return Vpp(self.api_socket, timeout=self._timeout)

    def cli(self, command: str) -> str:
        """Run a line of its command line, see `memif.vpp.Vpp.cli`."""
        with self.connect() as vpp:
            return vpp.cli(command)

    def stop(self) -> None:
        """End it in good order. A second call does nothing."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._timeout)
        self.kill9()

    def kill9(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _end(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def vpp(program: str | None = None, *, config: str = "", timeout: float = 20.0) -> Iterator[VppProcess]:
    """Context: a running `VppProcess`::

        with memif.testing.vpp() as process, process.connect() as vpp:
            with vpp.link(address="192.168.1.1/24") as iface:
                ...

    Args:
        program: The ``vpp`` program, see `VppProcess`.
        config: More sections of its ``startup.conf``.
        timeout: Seconds for its start and its end, each.

    Yields:
        The process.

    Raises:
        MemifFileNotFoundError: There is no VPP.
        VppError: It does not start.
    """
    with VppProcess(program, config=config, timeout=timeout) as process:
        yield process
