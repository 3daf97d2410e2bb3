"""What a hostile case is: a departure from the protocol, and what a sound memif makes of it."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memif.testing.hostile import HostilePeer


class Outcome(enum.Enum):
    """What the end under test does; the value is the word in the documentation's table."""

    #: The handshake ends with DISCONNECT and the reason; the link never comes up.
    REFUSED = "refused"
    #: The link ends with DISCONNECT and the reason.
    DISCONNECTED = "disconnected"
    #: The packet or buffer is dropped and counted; the link stays.
    DROPPED = "dropped, counted"
    #: Nothing happens: the link comes up, or stays, and works.
    HARMLESS = "no effect"
    #: The end under test goes on; whether the link stays depends on chance.
    SURVIVED = "survived"


#: Does the harm. In a handshake: -> the reason that the peer got, None when the link came up.
Attack = Callable[[HostilePeer], str | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    name        short, unique, words joined by hyphens
    role        of the hostile peer: "slave" or "master"
    linked      True: the link is up before the attack; False: the attack is the handshake
    about       what the peer does, as a sentence's end: "the peer …"
    attack      does it
    outcome     what the end under test does
    reason      DISCONNECT's text, a regular expression
    counter     for DROPPED: the queue's counter that must have moved, "rx.dropped_bad" or the like
    options     of the interface under test, see `Socket.interface`
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
