"""The handshake of both roles: bytes, descriptors and the time go in, actions come out.

Theory of operation
-------------------

A connection is made by a dialogue in which the slave sends nearly everything and the master confirms::

    slave (connects, owns the memory)    master (listens)

                    <-- HELLO ---------  the client has connected: versions and limits
    INIT ---------------------------->   which interface, which mode, the secret
    ADD_REGION + memory descriptor -->   once for each region
    ADD_RING + eventfd -------------->   once for each ring, slave-to-master rings first
    CONNECT ------------------------->   nothing more to offer
                    <-- CONNECTED -----  the memory is mapped, the rings can be used

INIT, ADD_REGION and ADD_RING are each answered by one ACK; CONNECT is answered by CONNECTED instead. The
slave waits for each answer, because peers send one queued message for each that they receive: too few
answers stall the other side, too many make it run ahead. DISCONNECT may come from either side at any time
and is not answered.

Both roles run on one table. A row says: in this state, at this event, call this method, then enter the next
state. An event without a row is a breach of protocol and ends the connection. Events are the types of the
peer's messages and a few things that our own side does (`Local`): starting, supplying memory, accepting
memory. The ACK of the last ring leads to another state than the ACKs before it. It is an event of its own, so the
table needs no conditions.

A running handshake ends in one of three ways: it comes up, a method raises an error, or the peer leaves. An error is
always sent to the peer in DISCONNECT, also where other implementations send nothing, so that the peer's user learns the
reason. Every end passes through one function, which releases all descriptors that the peer has sent.

Nothing here reads a clock. The owner passes the time in, and asks `deadline` when to call `tick`.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from memif.errors import ErrorCode, MemifProtocolError, MemifRefusedError, MemifStateError
from memif.protocol.actions import Action, Cause, Close, CloseFd, Negotiated, Send
from memif.protocol.refusals import MALFORMED, SPARE_FD, UNEXPECTED, broken, code_of
from memif.protocol.wire import AddRegion, AddRing, Disconnect, MessageType, decode


class Role(enum.Enum):
    """Which side of a connection: the master listens, the slave connects and owns the memory."""

    MASTER = "master"
    SLAVE = "slave"


class State(enum.Enum):
    """State of a handshake. The value completes the sentence "the connection ended while …"."""

    IDLE = "starting"
    WAIT_HELLO = "waiting for the master's HELLO"
    WAIT_MEMORY = "making the shared memory"
    WAIT_ACK = "waiting for the master's ACK"
    WAIT_CONNECTED = "waiting for the master's CONNECTED"
    WAIT_INIT = "waiting for the slave's INIT"
    WAIT_OFFER = "waiting for the slave's regions and rings"
    WAIT_MAPPING = "mapping the slave's memory"
    UP = "up"
    CLOSED = "closed"


class Local(enum.Enum):
    """Events that are not a message type."""

    START = enum.auto()
    OFFER = enum.auto()
    LAST_ACK = enum.auto()
    ACCEPT = enum.auto()


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table.

    Attributes:
        handler: Name of the method to call.
        state: The state after it.
    """

    handler: str
    state: State


_M, _S = Role.MASTER, Role.SLAVE

#: The transition table, by role, state and event.
TRANSITIONS: dict[tuple[Role, State, MessageType | Local], Transition] = {
    (_S, State.IDLE, Local.START): Transition("_on_start", State.WAIT_HELLO),
    (_S, State.WAIT_HELLO, MessageType.HELLO): Transition("_on_hello", State.WAIT_MEMORY),
    (_S, State.WAIT_MEMORY, Local.OFFER): Transition("_on_offer", State.WAIT_ACK),
    (_S, State.WAIT_ACK, MessageType.ACK): Transition("_send_next", State.WAIT_ACK),
    (_S, State.WAIT_ACK, Local.LAST_ACK): Transition("_send_next", State.WAIT_CONNECTED),
    (_S, State.WAIT_CONNECTED, MessageType.CONNECTED): Transition("_on_connected", State.UP),
    (_M, State.IDLE, Local.START): Transition("_on_start", State.WAIT_INIT),
    (_M, State.WAIT_INIT, MessageType.INIT): Transition("_on_init", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.ADD_REGION): Transition("_on_add_region", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.ADD_RING): Transition("_on_add_ring", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.CONNECT): Transition("_on_connect", State.WAIT_MAPPING),
    (_M, State.WAIT_MAPPING, Local.ACCEPT): Transition("_on_accept", State.UP),
}
TRANSITIONS.update(
    ((role, state, MessageType.DISCONNECT), Transition("_on_disconnect", State.CLOSED))
    for role in Role
    for state in State
    if state is not State.CLOSED
)

# What it means when a peer closes without a reason in this state.
_SILENCE = {
    State.WAIT_ACK: " (some masters do so when they have no interface of this id, or speak another version)",
}

_Handler = Callable[[Any, int | None], list[Action]]


class Handshake:
    """What both roles share.

    Call `start` first, then `receive` for each datagram, `eof` when the peer has closed, and `tick` at `deadline`.
    Carry out the actions that each call returns, in order. No call raises because of what the peer did. Not thread
    safe: one thread at a time.

    Args:
        now: The present time in seconds, on any clock that does not go back.
        timeout: Seconds for the whole handshake.

    Attributes:
        peer_name: Program name of the peer, "" until it is known. Printable text.
        peer_if_name: Interface name of the peer, "" until it is known. Printable text.
        negotiated: Numbers that both sides agreed on, None until then.
        closed: How the connection ended, None while it is open.
    """

    role: ClassVar[Role]

    peer_name: str
    peer_if_name: str
    negotiated: Negotiated | None
    closed: Close | None

    def __init__(self, now: float, timeout: float) -> None:
        self.peer_name = self.peer_if_name = ""
        self.negotiated = None
        self.closed = None
        self._state = State.IDLE
        self._deadline = now + timeout
        # Descriptors from the peer that are neither closed nor handed to the owner yet.
        self._held: list[int] = []

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def deadline(self) -> float | None:
        """When to call `tick`, on the clock of the constructor's `now`; None once the link is up or closed."""
        return None if self._state in (State.UP, State.CLOSED) else self._deadline

    def start(self) -> list[Action]:
        """Begin. The master sends HELLO.

        Raises:
            MemifStateError: when it was called before.
        """
        return self._local(Local.START)

    def receive(self, data: bytes, fds: Sequence[int] = (), *, truncated: bool = False) -> list[Action]:
        """Handle one datagram.

        Args:
            data: Its bytes. Empty when the peer has closed, as for `eof`.
            fds: The descriptors that came with it. The handshake takes them.
            truncated: Whether the kernel cut the bytes or the descriptors (MSG_TRUNC, MSG_CTRUNC).
        """
        self._held.extend(fds)
        if self._state is State.CLOSED:
            return self._release()
        if not data:
            return self.eof()
        try:
            return self._datagram(data, list(fds), truncated)
        except MemifRefusedError as error:
            return self._leave(Cause.REFUSED, error.reason or error.detail, error.code)
        except MemifProtocolError as error:
            return self._leave(Cause.PROTOCOL, error.detail, error.code)

    def eof(self) -> list[Action]:
        """The peer has closed the socket."""
        hint = _SILENCE.get(self._state, "")
        return self._end(Cause.EOF, "", ErrorCode.DISCONNECTED, "peer hung up without a reason", hint)

    def tick(self, now: float) -> list[Action]:
        """Give up if `deadline` has passed."""
        if self.deadline is None or now < self.deadline:
            return []
        return self._leave(Cause.TIMEOUT, "handshake timed out", ErrorCode.DISCONNECTED)

    def disconnect(self, reason: str = "") -> list[Action]:
        """End the connection on our side and send `reason` to the peer. Does nothing once it has ended."""
        return self._leave(Cause.LOCAL, reason, ErrorCode.DISCONNECTED)

    def refuse(self, reason: str, *, code: ErrorCode = ErrorCode.SYSCALL) -> list[Action]:
        """End the connection because its memory could not be created, mapped or trusted; `reason` is sent."""
        return self._leave(Cause.REFUSED, reason, code)

    def _datagram(self, data: bytes, fds: list[int], truncated: bool) -> list[Action]:
        if truncated:
            raise broken(MALFORMED)
        message = decode(data)
        wanted = isinstance(message, AddRegion | AddRing)
        if wanted and len(fds) > 1:
            raise broken(SPARE_FD)  # nothing says which one is meant
        actions = self._step(message.TYPE, message, fds[0] if wanted and fds else None)
        # A descriptor beside any other message is useless but harmless: no known peer sends one.
        return actions if wanted or self.closed else self._release(fds) + actions

    def _step(self, event: MessageType | Local, message: Any = None, fd: int | None = None) -> list[Action]:
        transition = TRANSITIONS.get((self.role, self._state, self._classify(event)))
        if transition is None:
            raise broken(UNEXPECTED, f"({event.name})")
        handler: _Handler = getattr(self, transition.handler)
        actions = handler(message, fd)
        self._state = transition.state
        return actions

    def _classify(self, event: MessageType | Local) -> MessageType | Local:
        """Replace a message's type by the event it stands for, where that depends on more than the type."""
        return event

    def _local(self, event: Local, argument: Any = None) -> list[Action]:
        if (self.role, self._state, event) not in TRANSITIONS:
            raise MemifStateError(f"no {event.name.lower()} while {self._state.value}")
        return self._step(event, argument)

    def _on_disconnect(self, message: Disconnect, fd: int | None) -> list[Action]:
        reason = message.reason
        text = f"peer disconnected: {reason}" if reason else "peer disconnected without a reason"
        return self._end(Cause.PEER, reason, code_of(reason), text)

    def _leave(self, cause: Cause, reason: str, code: ErrorCode) -> list[Action]:
        """End from our side: send the reason to the peer, then as `_end`."""
        if self._state is State.CLOSED:
            return []
        goodbye = Disconnect.because(reason, code)
        return [Send(goodbye), *self._end(cause, goodbye.reason, code, reason or "disconnected")]

    def _end(self, cause: Cause, reason: str, code: ErrorCode, text: str, hint: str = "") -> list[Action]:
        """Release what is held, and close once. The only way into `CLOSED`."""
        if self._state is State.CLOSED:
            return []
        was_up = self._state is State.UP
        if not was_up and cause is not Cause.LOCAL:
            text = f"{text}, while {self._state.value}{hint}"
        self._state = State.CLOSED
        self.closed = Close(reason, cause, code, text, was_up)
        return [*self._release(), self.closed]

    def _release(self, fds: Sequence[int] | None = None) -> list[Action]:
        """Stop holding `fds` (default: all descriptors) and have them closed."""
        gone = list(self._held if fds is None else fds)
        self._take(gone)
        return [CloseFd(fd) for fd in gone]

    def _take(self, fds: Sequence[int]) -> None:
        """Stop holding `fds`, which belong to somebody else from now on."""
        for fd in fds:
            self._held.remove(fd)
