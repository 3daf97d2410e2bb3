"""This package's end of a link with testpmd, in the role that testpmd leaves."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import memif
from peers.testpmd import Testpmd

#: What testpmd calls the role that is opposite to ours.
THEIRS = {"master": "client", "slave": "server"}


@contextlib.contextmanager
def link(
    path: str, role: str, testpmd: Callable[..., Testpmd], *, ours: dict[str, Any] | None = None, **theirs: Any
) -> Iterator[tuple[memif.Interface, Testpmd]]:
    """Context: our interface (options `ours`) and a testpmd (settings `theirs`), linked.

    At the end testpmd stops forwarding before our side goes away, which it could not bear.
    """
    with contextlib.ExitStack() as stack:
        peers: list[Testpmd] = []
        stack.callback(lambda: [settle(peer) for peer in peers])
        if role == "master":
            iface = stack.enter_context(memif.listen(path, **(ours or {})))
        # A server has to be there before its client, whoever plays the part.
        peer = testpmd(THEIRS[role], path, **theirs)
        peers.append(peer)
        if role == "slave":
            iface = stack.enter_context(memif.connect(path, **(ours or {})))
        iface.wait_up(10.0)
        peer.wait_link()
        stack.callback(peer.stop)
        yield iface, peer


def settle(peer: Testpmd) -> None:
    """Wait until testpmd has seen that our side is gone: one that is told to quit in that moment may crash."""
    if peer.alive:
        peer.wait_link(up=False)
