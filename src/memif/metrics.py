"""Prometheus metrics of interfaces: a collector that reads their counters when Prometheus asks.

Example::

    import prometheus_client
    from memif.metrics import MemifCollector

    prometheus_client.REGISTRY.register(MemifCollector(sock))
    prometheus_client.start_http_server(9100)

Nothing runs between two scrapes, and packets cost nothing extra. Needs prometheus-client (``pip install
memif[metrics]``).

Every sample has the labels ``socket``, ``id``, ``role`` and ``interface`` (the name). Samples of queues also have
``queue``. Counters never go back while an interface is open, not even when its link is lost.

=========================================  =======  ===============================================================
memif_up                                   gauge    1 while the link is up
memif_interface_info                       info     ``mode``, ``app_name``
memif_peer_info                            info     ``peer_name``, ``peer_app_name``, ``peer_pid``; while it is up
memif_connects_total                       counter  links that came up
memif_disconnects_total                    counter  links that ended
memif_refused_connections_total            counter  connections that ended before they were up
memif_receive_packets_total                counter  packets taken from the ring
memif_receive_bytes_total                  counter  their bytes
memif_receive_bursts_total                 counter  calls that got packets
memif_receive_interrupts_total             counter  wake-ups that came from the peer
memif_receive_dropped_packets_total        counter  packets thrown away; ``reason``: "bad_descriptor", "oversize"
memif_transmit_packets_total               counter  packets put into the ring
memif_transmit_bytes_total                 counter  their bytes
memif_transmit_bursts_total                counter  calls that sent packets
memif_transmit_interrupts_total            counter  wake-ups sent to the peer
memif_transmit_rejected_packets_total      counter  packets not accepted because the ring was full
memif_bad_descriptors_total                counter  invalid descriptors of the peer, by ``direction``
memif_ring_slots                           gauge    size of the ring, by ``direction``; while the link is up
memif_ring_used_slots                      gauge    slots with packets in them, or lent out by bursts; likewise
memif_clients_accepted_total               counter  of a socket (no other label): clients that connected
memif_clients_turned_away_total            counter  of a socket: clients beyond its limit, or without descriptors left
memif_clients_refused_total                counter  of a socket: clients refused that asked for no interface of it
=========================================  =======  ===============================================================
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from memif.errors import MemifTypeError
from memif.extras import with_advice

with with_advice():
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
    from prometheus_client.registry import Collector

_KEY = ("socket", "id", "role", "interface")

#: By direction: the metric and its text for each counter of `memif.ring.Stats`.
_QUEUE_COUNTERS = {
    "receive": {
        "packets": ("packets", "Packets taken from the ring"),
        "bytes": ("bytes", "Bytes of the packets taken from the ring"),
        "bursts": ("bursts", "Receive calls that got packets"),
        "interrupts_received": ("interrupts", "Wake-ups that came from the peer"),
    },
    "transmit": {
        "packets": ("packets", "Packets put into the ring"),
        "bytes": ("bytes", "Bytes of the packets put into the ring"),
        "bursts": ("bursts", "Transmit calls that sent packets"),
        "interrupts_sent": ("interrupts", "Wake-ups sent to the peer"),
        "ring_full": ("rejected_packets", "Packets not accepted because the ring was full"),
    },
}
_DROPS = {"dropped_bad": "bad_descriptor", "dropped_oversize": "oversize", "dropped_left": "left"}
_LINK_COUNTERS = {
    "connects": ("connects", "Links that came up"),
    "disconnects": ("disconnects", "Links that ended"),
    "refused": ("refused_connections", "Connections that ended before they were up"),
}
_SOCKET_COUNTERS = {
    "accepted": ("clients_accepted", "Clients that connected"),
    "turned_away": ("clients_turned_away", "Clients turned away because there were too many"),
    "refused": ("clients_refused", "Clients refused that had not asked for an interface of this socket"),
}


class _Source(Protocol):
    """An interface or a socket, of the sync or of the asyncio API."""

    @property
    def stats(self) -> Mapping[str, Any]: ...


class MemifCollector(Collector):
    """Collects the metrics of any number of interfaces and sockets, of the sync and of the asyncio API.

    A socket stands for all interfaces that are open on it at the time of the scrape. Closed interfaces are left out.
    Use one collector for all: a registry refuses a second one, because the names would be there twice. `collect` can
    run in any thread.

    Args:
        *sources: Interfaces and sockets. More can be added later.

    Raises:
        MemifTypeError: when one is neither an interface nor a socket.
    """

    def __init__(self, *sources: _Source) -> None:
        self._sources: list[Any] = []
        for i, source in enumerate(sources):
            self._add(f"sources[{i}]", source)

    def add(self, source: _Source) -> None:
        """Collect from this interface or socket too. Adding it again does nothing."""
        self._add("source", source)

    def _add(self, name: str, source: _Source) -> None:
        if not hasattr(source, "stats") or not (hasattr(source, "interfaces") or hasattr(source, "rx")):
            raise MemifTypeError.argument(name, source, "an interface or a socket")
        if not any(known is source for known in self._sources):
            self._sources = [*self._sources, source]

    def remove(self, source: _Source) -> None:
        """Stop collecting from this interface or socket. Unknown ones are ignored."""
        self._sources = [known for known in self._sources if known is not source]

    def describe(self) -> Iterable[Metric]:
        """Return all families, without samples."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """Return all families with their present values."""
        families = _Families()
        for interface in self._interfaces():
            families.read(interface)
        for socket in self._sources:
            if hasattr(socket, "interfaces"):
                families.read_socket(socket)
        return families.all()

    def _interfaces(self) -> Iterator[Any]:
        found: dict[int, Any] = {}
        for source in self._sources:
            for interface in getattr(source, "interfaces", (source,)):
                # The asyncio API wraps the sync one. The same interface may also be there twice.
                plain = getattr(interface, "sync", interface)
                if not plain.closed:
                    found[id(plain)] = plain
        return iter(found.values())


class _Families:
    """The metric families of one scrape."""

    def __init__(self) -> None:
        self.up = GaugeMetricFamily("memif_up", "1 while the link is up", labels=_KEY)
        self.info = InfoMetricFamily("memif_interface", "What the interface is", labels=_KEY)
        self.peer = InfoMetricFamily("memif_peer", "Who is at the other end of the link", labels=_KEY)
        self.links = {name: _counter(*metric, *_KEY) for name, metric in _LINK_COUNTERS.items()}
        self.queues = {
            (direction, name): _counter(f"{direction}_{metric}", text, *_KEY, "queue")
            for direction, metrics in _QUEUE_COUNTERS.items()
            for name, (metric, text) in metrics.items()
        }
        self.drops = _counter("receive_dropped_packets", "Packets thrown away", *_KEY, "queue", "reason")
        self.bad = _counter("bad_descriptors", "Invalid descriptors of the peer", *_KEY, "queue", "direction")
        labels = (*_KEY, "queue", "direction")
        self.slots = GaugeMetricFamily("memif_ring_slots", "Size of the ring", labels=labels)
        self.used = GaugeMetricFamily("memif_ring_used_slots", "Slots with packets in them", labels=labels)
        self.sockets = {name: _counter(*metric, "socket") for name, metric in _SOCKET_COUNTERS.items()}

    def all(self) -> list[Metric]:
        """Return all families in a fixed order."""
        return [
            *(self.up, self.info, self.peer),
            *self.links.values(),
            *self.queues.values(),
            *(self.drops, self.bad, self.slots, self.used),
            *self.sockets.values(),
        ]

    def read(self, interface: Any) -> None:
        """Add the samples of one interface."""
        key = (_text(interface.socket.address), str(interface.id), interface.role, interface.name)
        stats = interface.stats
        self.up.add_metric(key, float(interface.up))
        self.info.add_metric(key, {"mode": interface.mode, "app_name": interface.socket.app_name})
        peer = interface.peer
        if peer is not None:
            names = {"peer_name": peer.name, "peer_app_name": peer.app_name, "peer_pid": str(peer.pid)}
            self.peer.add_metric(key, names)
        for name, family in self.links.items():
            family.add_metric(key, stats[name])
        for direction, short, queues in (("receive", "rx", interface.rx), ("transmit", "tx", interface.tx)):
            for index, counters in enumerate(stats[short]):
                self._read_queue((*key, str(index)), direction, counters)
            for queue in queues:
                self._read_ring((*key, str(queue.index), direction), queue.ring, short)

    def _read_queue(self, key: tuple[str, ...], direction: str, counters: dict[str, int]) -> None:
        for name in _QUEUE_COUNTERS[direction]:
            self.queues[direction, name].add_metric(key, counters[name])
        self.bad.add_metric((*key, direction), counters["bad_descriptors"])
        if direction == "receive":
            for name, reason in _DROPS.items():
                self.drops.add_metric((*key, reason), counters[name])

    def _read_ring(self, key: tuple[str, ...], ring: Any, short: str) -> None:
        if ring is None:
            return
        # The slave's index minus the master's: packets where the slave produces, free buffers where the master does.
        between = min((ring.head - ring.tail) & 0xFFFF, ring.size)
        slave_produces = ring.slave == (short == "tx")
        self.slots.add_metric(key, ring.size)
        self.used.add_metric(key, between if slave_produces else ring.size - between)

    def read_socket(self, socket: Any) -> None:
        """Add the samples of one socket."""
        for name, family in self.sockets.items():
            family.add_metric((_text(socket.address),), socket.stats[name])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"memif_{name}", text, labels=labels)


def _text(address: object) -> str:
    """Return the name of a socket as text. A path may have bytes that are not valid text."""
    return str(address).encode("utf-8", "replace").decode()
