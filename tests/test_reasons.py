"""What errors say: the cause once and first, and what to do or to write instead."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memif
import memif.aio
from ends import all_up, linked, pump
from memif import ErrorCode

# -- a master says why nobody is connected


def client(path: str, **options: Any) -> Any:
    """A slave on `path` that tries once."""
    sock = memif.Socket(path)
    sock.interface(reconnect=None, **options).connect()
    return sock


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"secret": "right"}, {"secret": "wrong"}, "a client asked with an incorrect secret"),
    ({"secret": "right"}, {}, "a client asked without the secret"),
    ({"mode": "ip"}, {}, "a client asked in another mode (the master is ip, the slave ethernet)"),
    ({"authorize": lambda peer: False}, {}, "a client was not authorized"),
    ({"max_region_bytes": 4096}, {}, "a client was refused: memory region size out of range"),
]


@pytest.mark.parametrize(("ours", "theirs", "text"), REFUSED)
def test_a_master_names_why_its_clients_were_refused(
    socket_path: str, ours: dict[str, Any], theirs: dict[str, Any], text: str
) -> None:
    with memif.listen(socket_path, **ours) as master, client(socket_path, **theirs) as other:
        pump(master, other, until=lambda: master.stats["refused"] and other.interfaces[0].stats["refused"])
        assert master.stats["refused"] == 1
        assert master.socket.stats["refused"] == 0
        assert master.disconnect_reason == other.interfaces[0].disconnect_reason
        with pytest.raises(memif.MemifTimeoutError) as caught:
            master.wait_up(0.05)
        error = str(caught.value)
        assert error.startswith(text), error
        assert error.endswith(f"id 0 on {socket_path} (waited 0.05 s)")
        # The next client may be a better one, and then all is well.
        if "secret" in ours:
            with memif.Socket(socket_path) as good:
                all_up(good.interface(secret=ours["secret"]), master)
                master.wait_up(0)


def test_a_master_names_the_id_that_was_asked_for(socket_path: str) -> None:
    with memif.listen(socket_path, id=1) as master, client(socket_path, id=7) as other:
        pump(master, other, until=lambda: master.socket.stats["refused"])
        with pytest.raises(
            memif.MemifTimeoutError, match=r"^no client asked for id 1 on .*; one asked for id 7, which"
        ):
            master.wait_up(0)
        assert (master.stats["refused"], master.disconnect_reason) == (0, None)


def test_a_second_client_says_nothing_of_the_link(socket_path: str) -> None:
    with linked(socket_path) as (master, _), client(socket_path) as second:
        pump(master, second, until=lambda: master.stats["refused"])
        assert (master.up, master.disconnect_reason) == (True, None)


# -- a slave says what is wrong at its master

VAIN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"id": 1}, {"id": 7}, "{path} has no interface with id 7"),
    ({"mode": "ip"}, {}, "{path}: mode mismatch: the master is ip, the slave ethernet"),
    ({"secret": "a"}, {"secret": "b"}, "{path}: incorrect secret for interface 0"),
    ({"secret": "a"}, {}, "{path}: secret required for interface 0"),
]


@pytest.mark.parametrize(("ours", "theirs", "text"), VAIN)
def test_a_slave_names_the_cause(socket_path: str, ours: dict[str, Any], theirs: dict[str, Any], text: str) -> None:
    with memif.listen(socket_path, **ours) as master, memif.Socket(socket_path) as sock:
        slave = sock.interface(reconnect=60.0, **theirs)
        pump(master, sock, until=lambda: slave.stats["refused"])
        with pytest.raises(memif.MemifConnectionError if "id" not in ours else memif.MemifTimeoutError) as caught:
            slave.wait_up(0)
        waited = " (waited 0 s)" if "id" in ours else ""
        assert str(caught.value) == text.format(path=socket_path) + waited


def test_a_busy_interface(socket_path: str) -> None:
    with linked(socket_path) as (master, _), client(socket_path) as second:
        pump(master, second, until=lambda: second.interfaces[0].disconnect_reason)
        with pytest.raises(memif.MemifRefusedError, match=r"^interface 0 on .* has another client already$") as caught:
            second.interfaces[0].wait_up(1.0)
        assert caught.value.code is ErrorCode.ALRCONN


# -- before the first link


def test_a_master_before_its_first_client(socket_path: str) -> None:
    with memif.listen(socket_path) as master:
        expected = f"memif0: no peer has connected yet on {socket_path}; call wait_up() or poll() first"
        for attempt in (lambda: master.tx[0].send([b"x" * 60]), lambda: master.rx[0].recv(8, timeout=0)):
            with pytest.raises(memif.MemifDisconnectedError) as caught:
                attempt()
            assert str(caught.value) == expected


def test_a_slave_before_its_first_link(socket_path: str) -> None:
    with memif.Socket(socket_path) as sock:
        idle, trying = sock.interface(reconnect=None), sock.interface(id=1)
        with pytest.raises(
            memif.MemifDisconnectedError, match=r"not connected to .* yet; call connect\(\), then call wait"
        ):
            idle.tx[0].send([b"x" * 60])
        with pytest.raises(
            memif.MemifDisconnectedError, match=r"memif1: there is no socket .*start the listening side"
        ):
            trying.tx[0].send([b"x" * 60])


def test_asyncio_before_its_first_client(socket_path: str) -> None:
    async def main() -> None:
        async with memif.aio.listen(socket_path) as master:
            with pytest.raises(memif.MemifDisconnectedError, match=r"no peer .*; await wait_up\(\) first$"):
                await master.rx[0].recv(8, timeout=1)

    asyncio.run(main())


# -- what to write instead


def test_roles_that_the_other_call_has(socket_path: str) -> None:
    for connect in (memif.connect, memif.aio.connect):
        for role in ("master", "server"):
            with pytest.raises(memif.MemifValueError, match=rf"^argument role: got '{role}', .* or use listen\(\)"):
                connect(socket_path, role=role)  # type: ignore[arg-type]
    for listen in (memif.listen, memif.aio.listen):
        for role in ("slave", "client"):
            with pytest.raises(memif.MemifValueError, match=rf"^argument role: got '{role}', .* or use connect\(\)"):
                listen(socket_path, role=role)  # type: ignore[arg-type]
    with memif.listen(socket_path, role="server") as master, memif.Socket(socket_path) as sock:
        all_up(master, sock.interface(role="client"))


def test_queues_are_not_one_queue(socket_path: str) -> None:
    with linked(socket_path) as (master, _):
        with pytest.raises(AttributeError, match=r"write tx\[0\]\.send, "):
            master.tx.send([b"x"])  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"write rx\[0\]\.recv, "):
            master.rx.recv()  # type: ignore[attr-defined]
        assert not hasattr(master.rx, "nonsense")
        assert isinstance(master.rx, tuple)


def test_text_is_not_bytes(socket_path: str) -> None:
    with linked(socket_path) as (_, slave):
        with pytest.raises(memif.MemifTypeError, match=r"packets\[1\]: got 'text', allowed: bytes; write text\.encode"):
            slave.tx[0].send([b"x", "text"])  # type: ignore[list-item]
        with pytest.raises(memif.MemifTypeError, match=r"for one packet write send\(\[packet\]\)"):
            slave.tx[0].send(b"x")


def test_with_and_async_with(socket_path: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"write 'async with' .*aio\.listen\(\.\.\.\)"):
            with memif.aio.listen(socket_path):  # type: ignore[attr-defined]
                pass
        async with memif.aio.listen(socket_path) as master:
            with pytest.raises(TypeError, match="write 'async with'"):
                with master:  # type: ignore[attr-defined]
                    pass
            with pytest.raises(AttributeError, match=r"write tx\[0\]\.send"):
                master.tx.send([b"x"])  # type: ignore[attr-defined]
        with memif.Socket(socket_path) as sock:
            with pytest.raises(TypeError, match=r"write 'with' in place of 'async with' .*or use memif.aio"):
                async with sock:  # type: ignore[attr-defined]
                    pass
        with pytest.raises(AttributeError, match=r"write iface = await memif\.aio\.connect\(\.\.\.\), then iface\.tx"):
            _ = memif.aio.connect(socket_path).tx  # type: ignore[attr-defined]
        assert not hasattr(memif.aio.connect(socket_path), "nonsense")

    asyncio.run(main())


# -- without the extras

WITHOUT = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
import memif
"""
PACKAGES = {"numpy", "scapy", "prometheus_client", "pyroute2", "click", "rich", "numba"}


def without(program: str, missing: set[str] = PACKAGES) -> str:
    """What a program prints in an interpreter without these packages."""
    words = [sys.executable, "-c", WITHOUT.format(missing=missing) + program]
    environment = {**os.environ, "PAGER": "cat", "MANPAGER": "cat"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_dir_need_no_extra() -> None:
    said = without("print(*dir(memif)); help(memif)")
    names, _, text = said.partition("\n")
    assert {"connect", "listen", "aio"} < set(names.split())
    assert not {"packet", "scapy", "metrics"} & set(names.split())
    assert "Help on package memif" in text
    assert {"packet", "scapy", "metrics"} < set(dir(memif))


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("memif.packet", "numpy", "numpy"),
        ("memif.packet.headers", "numpy", "numpy"),
        ("memif.sniff", "numpy", "numpy"),
        ("memif.scapy", "scapy", "scapy"),
        ("memif.metrics", "prometheus_client", "metrics"),
    ],
)
def test_a_missing_extra_is_named(module: str, package: str, extra: str) -> None:
    said = without(
        f"""
try:
    import {module}
except ImportError as error:
    print(type(error).__name__, error)
""",
        {package},
    )
    assert said.strip() == f"ModuleNotFoundError {package} is not installed; it comes with pip install 'memif[{extra}]'"


def test_all_other_modules_need_no_extra() -> None:
    """Each either loads without them or names what it needs; the tools say it for themselves."""
    said = without(
        """
import pkgutil, importlib
for module in pkgutil.walk_packages(memif.__path__, "memif.", onerror=lambda name: None):
    if module.name.startswith(("memif.tools.", "memif.__main__")):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if "pip install 'memif[" not in str(error):
            print(module.name, error)
"""
    )
    assert said == ""


def test_the_command_line_names_its_extra(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(WITHOUT.format(missing={"click"}) + "from memif.tools import main\nmain()\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'memif[cli]'" in done.stderr
