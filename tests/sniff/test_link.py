"""`memif.sniff.Link` and `Sniffer` with peers that announce nonsense: the tap gives up, the link goes on."""

import os

import pytest

import memif as library
from ends import pump
from memif.errors import MemifError
from memif.memory.region import create_memfd
from memif.protocol import wire
from memif.sniff import Ended, Link, Note, Sniffer, Started

_SIZE = 1 << 16


def region(size: int = _SIZE) -> int:
    """A descriptor of new memory; `Link.see` closes it."""
    return create_memfd(size).owner.release()


def ring(offset: int = 0, log2: int = 4, region: int = 0) -> wire.AddRing:
    """The announcement of a ring."""
    return wire.AddRing(True, 0, region, offset, log2)


@pytest.mark.parametrize(
    "messages",
    [
        [(wire.AddRegion(0, 2 * _SIZE), True)],
        [(wire.AddRegion(0, 0), True)],
        [(wire.AddRegion(0, 1 << 63), True)],
        [(wire.AddRegion(0, _SIZE), False)],
        [(wire.AddRegion(1, _SIZE), True)],
        [(wire.AddRegion(0, _SIZE), True), (ring(offset=_SIZE), False), (wire.Connected(), False)],
        [(wire.AddRegion(0, _SIZE), True), (ring(log2=15), False), (wire.Connected(), False)],
        [(wire.AddRegion(0, _SIZE), True), (ring(region=1), False), (wire.Connected(), False)],
        [(wire.AddRegion(0, _SIZE), True), (ring(offset=8), False), (wire.Connected(), False)],
        [(wire.AddRegion(0, _SIZE), True), (ring(), False), (ring(offset=16), False), (wire.Connected(), False)],
        [(ring(), False), (wire.Connected(), False)],
    ],
)
def test_unsound_announcements_are_refused(messages: list[tuple[wire.Message, bool]]) -> None:
    link = Link(1)

    def see_all() -> None:
        for message, with_fd in messages:
            link.see(message, [region()] if with_fd else [])

    with pytest.raises(MemifError):
        see_all()
    assert not link.up
    assert link.taps == []
    link.close()


def test_a_pipe_is_no_memory() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(MemifError):
        Link(1).see(wire.AddRegion(0, 4096), [reader])


def test_a_sound_link_has_taps_and_lets_go_of_its_memory() -> None:
    link = Link(1)
    for message, fds in (
        (wire.Init(id=3, name="app"), []),
        (wire.AddRegion(0, _SIZE), [region()]),
        (ring(), []),
        (wire.Connect("slave"), []),
        (wire.Connected("master"), []),
    ):
        link.see(message, fds)
    assert link.up
    assert len(link.taps) == 1
    assert link.name == "id 3: slave - master"
    assert link.taps[0].take() is None
    link.close()  # the leak check sees to the rest


def test_events_of_a_whole_life(socket_path: str) -> None:
    events: list[object] = []
    with library.listen(socket_path) as server, Sniffer(socket_path + "t", socket_path) as tap:
        with library.Socket(socket_path + "t") as sock:
            client = sock.interface()
            pump(server, client, until=lambda: server.up and client.up, timeout=30)
            client.tx[0].send([b"x" * 60])

            def seen(kind: type) -> bool:
                events.extend(tap.poll(0.05) or ())
                return any(isinstance(event, kind) for event in events)

            pump(server, client, until=lambda: seen(Started), timeout=30)
            client.disconnect("bye")
            pump(server, client, until=lambda: seen(Ended), timeout=30)
    assert not [event for event in events if isinstance(event, Note)]


def test_the_name_is_taken(socket_path: str) -> None:
    with library.listen(socket_path), pytest.raises(MemifError, match=r"has .* already"):
        Sniffer(socket_path, socket_path + "x")
