"""Log records: the name of the interface in each, whatever part of the package wrote it."""

import io
import logging
from collections.abc import Iterator

import pytest

import memif
import memif.logs
from ends import linked, pump

FORMAT = "%(levelname)s %(name)s [%(interface)s] %(message)s"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a handler of the logger "memif" writes with the interface's name in its format."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("memif")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_links(log: io.StringIO, socket_path: str) -> None:
    """Both ends tell of the link's begin and end, under their own names."""
    with linked(socket_path, master={"name": "right"}, slave={"name": "left"}) as (server, client):
        client.disconnect("lunch")
        pump(server, until=lambda: not server.up)
    lines = log.getvalue().splitlines()
    assert "INFO memif.interface [right] right: connected to left" in lines
    assert "INFO memif.interface [left] left: connected to right" in lines
    assert any("[left]" in line and "lunch" in line for line in lines)
    assert any("[right]" in line and "lunch" in line for line in lines)


def test_refusals(log: io.StringIO, socket_path: str) -> None:
    """A client without an interface leaves the name empty; the format holds."""
    with memif.listen(socket_path, id=1) as server, memif.Socket(socket_path) as sock:
        client = sock.interface(id=2, name="stray")
        pump(server, client, until=lambda: client.disconnect_reason)
        with pytest.raises(memif.MemifTimeoutError):
            memif.connect(socket_path, id=1, timeout=0)
    lines = log.getvalue().splitlines()
    assert any(line.startswith("WARNING memif.interface [stray] ") for line in lines), lines


def test_memory_that_is_not_to_be_had(log: io.StringIO, socket_path: str) -> None:
    """The handshake's failures on this side carry the name of the interface, on both sides."""
    with memif.Socket(socket_path) as servers, memif.Socket(socket_path) as clients:
        server = servers.interface(role="master", name="small", max_region_bytes=4096)
        client = clients.interface(name="large")
        pump(servers, clients, until=lambda: client.disconnect_reason)
        assert not server.up
    lines = log.getvalue().splitlines()
    assert any("[small]" in line for line in lines), lines
    assert any(line.startswith("WARNING memif.interface [large] ") for line in lines), lines


def test_failed_attempts(log: io.StringIO, socket_path: str) -> None:
    """Nobody listens: told once, not for each attempt."""
    with pytest.raises(memif.MemifTimeoutError):
        memif.connect(socket_path, name="alone", timeout=0.4)
    lines = [line for line in log.getvalue().splitlines() if "[alone]" in line]
    assert len([line for line in lines if line.startswith("INFO memif.interface")]) == 1


def test_every_logger_completes_its_records(log: io.StringIO) -> None:
    """All loggers that the documentation names give the field a value, also where no interface is known."""
    names = {line.split()[0] for line in (memif.logs.__doc__ or "").splitlines() if line.startswith("memif.")}
    assert names
    for name in sorted(names):
        memif.logs.get_logger(name).warning("about nobody")
    assert log.getvalue().splitlines() == [f"WARNING {name} [] about nobody" for name in sorted(names)]


def test_nothing_is_printed_without_a_handler(socket_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """INFO stays silent unless the user asks; the package sets no level and no handler."""
    assert logging.getLogger("memif").handlers == []
    with linked(socket_path):
        pass
    assert capsys.readouterr().err == ""
