"""DPDK's testpmd as the far end of a memif.

A `Testpmd` is one ``dpdk-testpmd`` process in interactive mode: no huge pages, no NIC, both of its threads on one CPU.
Its output goes to a file, so that a chatty peer never blocks on a pipe that nobody reads, and the file is there to be
shown when a test fails. Counters and link state come over DPDK's telemetry socket, because reading them costs the peer
nothing and needs no parsing of text.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from memif.config import ROLES, choose
from memif.errors import MemifFileNotFoundError, MemifPermissionError
from memif.protocol import Role
from memif.testing.dpdk_settings import Settings

_PROMPT = "testpmd> "
#: What Debian and Ubuntu call what a testpmd with memif needs.
PACKAGES = "dpdk librte-net-memif23 librte-mempool-ring23"
_RUNTIME = Path("/var/run/dpdk")
_serial = itertools.count()


class TestpmdError(AssertionError):
    """A testpmd did not do what was asked of it; the message ends with the tail of its log."""

    __test__ = False


def poll_until(ready: Callable[[], Any], timeout: float, interval: float = 0.001) -> Any:
    """Call `ready` until it returns something true, and return that, or its last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := ready()) and time.monotonic() < deadline:
        time.sleep(interval)
    return value


def require_testpmd() -> None:
    """Raise the error that says what is missing unless testpmd can run here."""
    if shutil.which("dpdk-testpmd") is None:
        raise MemifFileNotFoundError(f"dpdk-testpmd is missing: apt-get install --no-install-recommends {PACKAGES}")
    if os.geteuid() != 0:
        raise MemifPermissionError("dpdk-testpmd needs root")


def _thread_states(pid: int) -> list[str]:
    """The state letter of each thread of process `pid`."""
    stats = (thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir())
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


class Testpmd:
    """One testpmd with a memif as its port 0. Context manager.

    A testpmd may crash when its peer vanishes while it forwards. Call `stop` before closing the other end, or forward
    in a `forwarding` block inside of the other end's.

    Args:
        path: The control socket, a file.
        role: "server" (master) listens, "client" (slave) connects.
        netns: Name of a network namespace to run in.
        tolerate_crash: Do not complain if it has died by itself.
        timeout: Seconds for its start, a command, and its end, each.
        **settings: See `memif.testing.dpdk_settings.Settings`.

    Raises:
        MemifFileNotFoundError: There is no dpdk-testpmd.
        MemifPermissionError: This is not root.
    """

    __test__ = False

    #: Factor on all time limits, for machines that are slow or busy.
    patience: float = 1.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        role: str = "server",
        *,
        netns: str | None = None,
        tolerate_crash: bool = False,
        timeout: float = 20.0,
        **settings: Any,
    ) -> None:
        self.require()
        role = "server" if choose("role", role, ROLES) is Role.MASTER else "client"
        self.settings: Settings = Settings(socket_path=os.fspath(path), role=role, **settings)
        self.prefix: str = f"memif-{os.getpid()}-{next(_serial)}"
        self.name: str = f"testpmd {role} {self.prefix}"
        self.returncode: int | None = None
        self._netns = netns
        self._tolerate_crash = tolerate_crash
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._telemetry: socket.socket | None = None
        self._forwarding = False
        self._ending = False
        self._read = 0  # how far into the log `command` has got
        handle, name = tempfile.mkstemp(prefix=f"{self.prefix}-", suffix=".log")
        os.close(handle)
        self._log_path = Path(name)

    def require(self) -> None:
        """Raise an error unless a testpmd can run here."""
        require_testpmd()

    def crashed(self, returncode: int, *, asked: bool) -> None:
        """Called when it is found dead by itself, for subclasses; `asked`: after it was told to end."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.ends()
        try:
            self.quit()
        except TestpmdError:
            if kind is None:  # else: what the test itself found comes first
                raise
        finally:
            self.discard()

    def open(self) -> Self:
        """Start it and return when it takes commands; raise TestpmdError when it has no memif."""
        if self.settings.role == "server":  # a stale socket file makes its bind fail
            Path(self.settings.socket_path).unlink(missing_ok=True)
        try:
            self._spawn()
            self._until_prompt("start")
            if "Device name: net_memif0" not in self.command("show port info 0"):
                self._fail("has no memif port")
            for command in self.settings.first_commands():
                self.command(command)
        except BaseException:
            self._kill()
            raise
        return self

    def _spawn(self) -> None:
        enter = ["ip", "netns", "exec", self._netns] if self._netns else []
        words = enter + self.settings.command_line(self.prefix)
        with self._log_path.open("ab", buffering=0) as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    # -- talking to it

    def command(self, text: str, timeout: float | None = None) -> str:
        """Type `text` and return what testpmd prints until its next prompt (its log lines included)."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._fail(f"ended before {text!r}")
        output = self._until_prompt(repr(text), timeout)
        if "Command not found" in output or "Bad arguments" in output:
            self._fail(f"does not understand {text!r}")
        return output

    def start(self, tx_first: int | None = None) -> None:
        """Start forwarding; with `tx_first` send that many bursts first."""
        self.command("start" if tx_first is None else f"start tx_first {tx_first}")
        self._forwarding = True

    def stop(self) -> str:
        """Stop forwarding and return the statistics it prints then. No-op when it does not forward."""
        if not self._forwarding or not self.alive:
            return ""
        self._forwarding = False
        return self.command("stop")

    @contextlib.contextmanager
    def forwarding(self, tx_first: int | None = None) -> Iterator[Self]:
        """`start` for the time of a ``with`` block, `stop` after it."""
        self.start(tx_first)
        try:
            yield self
        finally:
            self.stop()

    def telemetry(self, query: str) -> dict[str, Any]:
        """Ask DPDK's telemetry socket, for example ``/ethdev/stats,0``; returns the answer's inner object."""
        if self._telemetry is None:
            self._telemetry = self._connect_telemetry()
        self._telemetry.send(query.encode())
        answer = json.loads(self._telemetry.recv(1 << 16))
        inner = answer[query.partition(",")[0]]
        return inner if isinstance(inner, dict) else {"value": inner}

    def _connect_telemetry(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(self._timeout)
        try:
            connection.connect(str(_RUNTIME / self.prefix / "dpdk_telemetry.v2"))
            connection.recv(1 << 14)  # the hello
        except BaseException:
            connection.close()
            raise
        return connection

    def stats(self, port: int = 0) -> dict[str, Any]:
        """Counters of `port`: ipackets, opackets, ibytes, obytes, ... A memif's read 0 after a disconnect."""
        return self.telemetry(f"/ethdev/stats,{port}")

    def link_status(self, port: int = 0) -> bool:
        """True while the link of `port` is up."""
        return bool(self.telemetry(f"/ethdev/link_status,{port}")["status"] == "UP")

    def wait_link(self, timeout: float = 5.0, *, up: bool = True) -> None:
        """Return when the memif's link is up (or down); raise TestpmdError after `timeout` seconds."""
        if not poll_until(lambda: self.link_status() == up, self._within(timeout)):
            self._fail(f"link not {'up' if up else 'down'} after {timeout} s")

    def wait_stats(self, counter: str, value: int, port: int = 0, timeout: float = 10.0) -> int:
        """Wait until `counter` of `port` is at least `value`; return it, or raise TestpmdError."""
        if not poll_until(lambda: self.stats(port)[counter] >= value, self._within(timeout), 0.005):
            self._fail(f"port {port} {counter} is {self.stats(port)[counter]} after {timeout} s, not {value}")
        return int(self.stats(port)[counter])

    def reconnect(self) -> None:
        """Make a client try again to connect; it never does so by itself."""
        self.stop()
        self.command("port stop 0")
        self.command("port start 0")

    # -- ending it

    def ends(self) -> None:
        """From here on its death explains no failure of the test. No-op when it is dead already."""
        self._ending = self._ending or self.alive

    def quit(self) -> None:
        """End it in good order; raise TestpmdError when it has crashed or hangs. No-op when it has ended."""
        if self._process is None:
            return
        self._let_peer_go()
        self.ends()
        asked = self._say_quit()
        try:
            self.returncode = self._process.wait(self._within(self._timeout))
        except subprocess.TimeoutExpired:
            self._kill()
            self._fail("did not end when told to quit")
        self._kill()
        if not self._tolerate_crash and not (asked and self.returncode == 0):
            self._fail(f"{'crashed' if asked else 'ended by itself'} with status {self.returncode}")

    def _let_peer_go(self) -> None:
        """Its driver crashes when it is told to quit while it notes that the peer has left: let it finish that."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if self.alive and not poll_until(lambda: not self.link_status(), self._within(0.3)):
                return  # the peer is there and stays
        time.sleep(0.02)  # the link's end is shown before the driver is done with it

    def _say_quit(self) -> bool:
        """Type ``quit``; False when the process was gone already."""
        assert self._process is not None
        if self._process.poll() is not None:
            return False
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"stop\nquit\n" if self._forwarding else b"quit\n")
            self._process.stdin.flush()
        return True

    def kill9(self) -> None:
        """End it as a crash would: SIGKILL, no farewell to the peer."""
        self._running()
        self._kill()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): a peer that is connected, but silent. Returns when its threads stand still."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if not poll_until(lambda: set(_thread_states(process.pid)) == {"T"}, self._within(self._timeout)):
            self._fail("did not stop when told to")

    def resume(self) -> None:
        """Undo `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def _kill(self) -> None:
        """Make sure that nothing of it runs or stays open; the log stays."""
        process, self._process = self._process, None
        if process is not None:
            if (found := process.poll()) is not None and not self._tolerate_crash:
                self.crashed(found, asked=self._ending)
            process.kill()
            self.returncode = process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if self._telemetry is not None:
            self._telemetry.close()
            self._telemetry = None
        shutil.rmtree(_RUNTIME / self.prefix, ignore_errors=True)

    def discard(self) -> None:
        """Kill it if need be and delete its log."""
        self._kill()
        self._log_path.unlink(missing_ok=True)

    # -- its log

    @property
    def log(self) -> str:
        """All it has printed so far, standard error included; empty after `discard`."""
        with contextlib.suppress(FileNotFoundError):
            return self._log_path.read_text(errors="replace")
        return ""

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._fail("does not run")
        return self._process

    def _until_prompt(self, what: str, timeout: float | None = None) -> str:
        """Return the log from where the last call stopped up to the next prompt."""
        deadline = time.monotonic() + self._within(timeout or self._timeout)
        with self._log_path.open("rb") as log:
            while True:
                log.seek(self._read)
                fresh, prompt, _ = log.read().partition(_PROMPT.encode())
                if prompt:
                    self._read += len(fresh) + len(prompt)
                    return fresh.decode(errors="replace")
                if self._running().poll() is not None:
                    self._fail(f"ended during {what}")
                if time.monotonic() > deadline:
                    self._fail(f"gave no prompt after {what}")
                time.sleep(0.001)

    def _within(self, seconds: float) -> float:
        return seconds * self.patience

    def _fail(self, reason: str) -> NoReturn:
        tail = "\n".join(self.log.splitlines()[-40:])
        raise TestpmdError(f"{self.name} {reason}\n--- its log:\n{tail}")


@contextlib.contextmanager
def testpmd(
    path: str | os.PathLike[str],
    forward: str = "macswap",  # noqa: PT028  no test, in spite of its name
    role: str = "server",  # noqa: PT028
    queues: int = 1,  # noqa: PT028
    **settings: Any,
) -> Iterator[Testpmd]:
    """Context: a running `Testpmd` with a memif on `path`. It forwards inside of its `forwarding` block::

        with testpmd(path) as peer, memif.connect(path) as iface:
            with peer.forwarding():
                iface.tx[0].send([frame])

    Args:
        path: The control socket, a file.
        forward: What it does with packets: "macswap" sends them back, "rxonly" counts them, "txonly" sends, "icmpecho"
            answers ARP and ping.
        role: "server" (master) or "client" (slave).
        queues: Queues in each direction; our end needs as many.
        **settings: See `memif.testing.dpdk_settings.Settings`, and `Testpmd`.

    Yields:
        The testpmd, which takes commands. As a server it listens.

    Raises:
        MemifFileNotFoundError: There is no dpdk-testpmd.
        MemifPermissionError: This is not root.
        TestpmdError: It does not start, or has crashed.
    """
    with Testpmd(path, role, forward=forward, queues=queues, **settings) as peer:
        yield peer


testpmd.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test
