"""Hostile cases: violations of the protocol, each with what a correct memif does about it.

`memif.testing.CASES` is the table of all cases of this package's modules.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memif.testing.hostile import HostilePeer


class Outcome(enum.Enum):
    """What the end under test does. The value is the word in the documentation's table."""

    #: The handshake ends with DISCONNECT and the reason; the link never comes up.
    REFUSED = "refused"
    #: The link ends with DISCONNECT and the reason.
    DISCONNECTED = "disconnected"
    #: The packet or buffer is dropped and counted; the link stays.
    DROPPED = "dropped, counted"
    #: Nothing happens. The link comes up, or stays, and works.
    HARMLESS = "no effect"
    #: The end under test goes on. Whether the link stays depends on chance.
    SURVIVED = "survived"


#: Does the harm. In a handshake it returns the reason that the peer got, None when the link came up.
Attack = Callable[[HostilePeer], str | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        name: Short, unique, words joined by hyphens.
        role: Role of the hostile peer, "slave" or "master".
        linked: True: the link is up before the attack. False: the attack is the handshake.
        about: What the peer does, as the end of a sentence: "the peer …".
        attack: Does it.
        outcome: What the end under test does.
        reason: The text of DISCONNECT, a regular expression.
        counter: For DROPPED: the counter of the queue that must have moved, such as "rx.dropped_bad".
        options: Options of the interface under test, see `Socket.interface`.
    """

    name: str
    role: str
    linked: bool
    about: str
    attack: Attack
    outcome: Outcome
    reason: str = ""
    counter: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
