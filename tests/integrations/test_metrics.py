"""The Prometheus collector, read back by the client's own parser and over HTTP."""

import asyncio
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import memif
import memif.aio
from ends import linked, pump
from memif.metrics import MemifCollector


def scrape(*sources: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would see: values by sample name and labels."""
    registry = CollectorRegistry()
    registry.register(MemifCollector(*sources))
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples of an exposition; each must be there once only."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


class Values:
    """Looks values up by name and some of their labels."""

    def __init__(self, *sources: Any) -> None:
        self.samples = scrape(*sources)

    def __call__(self, name: str, **labels: object) -> float:
        wanted = {(label, str(value)) for label, value in labels.items()}
        [value] = [v for (n, have), v in self.samples.items() if n == f"memif_{name}" and wanted <= have]
        return value


@pytest.fixture
def ends(socket_path: str) -> Iterator[tuple[memif.Interface, memif.Interface]]:
    with linked(socket_path, slave={"ring_size": 8, "name": "left", "rx_queues": 2}, master={"name": "right"}) as ends:
        yield ends


def test_counters_of_packets(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """Both ends of a link count the same packets, per queue."""
    server, client = ends
    assert client.tx[0].send([b"x" * 100] * 10) == 8
    server.rx[0].recv(3).release()
    assert server.tx[1].send([b"y"] * 2) == 2
    value = Values(server, client)
    for name, expected in (("packets", 8), ("bytes", 800), ("bursts", 1), ("rejected_packets", 2), ("interrupts", 1)):
        assert value(f"transmit_{name}_total", interface="left", queue=0) == expected
    for name, expected in (("packets", 3), ("bytes", 300), ("bursts", 1)):
        assert value(f"receive_{name}_total", interface="right", queue=0) == expected
    assert value("transmit_packets_total", role="master", queue=0) == 0
    assert value("transmit_packets_total", role="master", queue=1) == 2
    assert value("receive_dropped_packets_total", role="master", reason="oversize") == 0
    assert value("bad_descriptors_total", role="master", direction="transmit", queue=0) == 0


def test_rings(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """How full the rings are, seen from both ends: the same."""
    server, client = ends
    client.tx[0].send([b"x"] * 5)
    server.tx[1].send([b"y"] * 2)
    value = Values(server, client)
    assert value("ring_slots", role="slave", direction="receive", queue=1) == 8
    for role, direction in (("slave", "transmit"), ("master", "receive")):
        assert value("ring_used_slots", role=role, direction=direction, queue=0) == 5
    for role, direction in (("slave", "receive"), ("master", "transmit")):
        assert value("ring_used_slots", role=role, direction=direction, queue=0) == 0
        assert value("ring_used_slots", role=role, direction=direction, queue=1) == 2


def test_links_and_peers(ends: tuple[memif.Interface, memif.Interface], socket_path: str) -> None:
    """State, names and connection counters follow the link; what needs a link is left out without one."""
    server, client = ends
    value = Values(server)
    assert value("up") == 1
    assert value("peer_info", peer_name="left", peer_app_name="slave's app") == 1
    assert value("interface_info", mode="ethernet", app_name="master's app", socket=socket_path, id=0) == 1
    assert (value("connects_total"), value("disconnects_total")) == (1, 0)
    client.close()
    pump(server, until=lambda: not server.up)
    value = Values(server)
    assert (value("up"), value("connects_total"), value("disconnects_total")) == (0, 1, 1)
    assert not any(name in ("memif_peer_info", "memif_ring_slots") for name, _ in value.samples)
    assert value("receive_packets_total") == 0


def test_sockets_stand_for_their_interfaces(socket_path: str) -> None:
    """Whatever is open on a socket, once; closed interfaces disappear."""
    with memif.Socket(socket_path) as sock:
        collector = MemifCollector(sock)
        registry = CollectorRegistry()
        registry.register(collector)
        first = sock.interface(id=1, role="master")
        second = sock.interface(id=2, role="master")
        collector.add(second)
        collector.add(sock)
        ids = [dict(labels)["id"] for name, labels in parsed(generate_latest(registry).decode()) if name == "memif_up"]
        assert sorted(ids) == ["1", "2"]
        first.close()
        value = Values(sock)
        assert (value("up"), value("clients_accepted_total"), value("clients_turned_away_total")) == (0, 0, 0)
        collector.remove(sock)
        collector.remove(second)
        collector.remove(second)
        assert parsed(generate_latest(registry).decode()) == {}
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(MemifCollector())
        with pytest.raises(TypeError):
            collector.add(socket_path)  # type: ignore[arg-type]


def test_the_asyncio_api(socket_path: str) -> None:
    """Its sockets and interfaces are sources, too."""

    async def main() -> Values:
        async with memif.aio.listen(socket_path) as server, memif.aio.connect(socket_path) as client:
            await server.wait_up(1.0)
            return Values(client, server.socket)

    value = asyncio.run(main())
    assert (value("up", role="master"), value("up", role="slave")) == (1, 1)


def test_strange_names_are_escaped(socket_path: str) -> None:
    """The peer's words cannot break the exposition."""
    name = 'a"b\\c}é'
    with linked(socket_path, slave={"name": name}) as (server, _):
        assert Values(server)("peer_info", peer_name=name) == 1


def test_openmetrics_and_conventions(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """The stricter format parses as well; counters end in _total, names are snake case with our prefix."""
    registry = CollectorRegistry()
    registry.register(MemifCollector(*ends))
    families = list(parse_openmetrics(generate_openmetrics(registry).decode()))
    assert {family.type for family in families} == {"gauge", "counter", "info"}
    for family in families:
        assert family.documentation
        assert family.name.startswith("memif_")
        assert family.name.replace("_", "").isalnum()
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")


def test_every_metric_is_in_the_documentation(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """The module's table has the names that are collected, no others."""
    import memif.metrics

    table = {line.split()[0] for line in (memif.metrics.__doc__ or "").splitlines() if line.startswith("memif_")}
    ends[1].tx[0].send([b"x"])
    assert {name for name, _ in scrape(ends[0], ends[0].socket)} == table


def test_scraped_over_http(ends: tuple[memif.Interface, memif.Interface]) -> None:
    """A real scrape on the loopback, while packets move."""
    server, client = ends
    registry = CollectorRegistry()
    registry.register(MemifCollector(server, client))
    http, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        client.tx[0].send([b"x"] * 4)
        url = f"http://127.0.0.1:{http.server_port}/metrics"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            assert answer.status == 200
            samples = parsed(answer.read().decode())
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
    sent = [v for (name, labels), v in samples.items()
            if name == "memif_transmit_packets_total" and ("interface", "left") in labels]  # fmt: skip
    assert sent == [4]
