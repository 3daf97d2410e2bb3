"""The handshake of both roles: bytes, descriptors and the time go in, actions come out.

Theory of operation
-------------------

A connection is made by a dialogue in which the master asks nothing and the slave does nearly all of the
talking:

    slave (connects, owns the memory)            master (listens)

                          <-- HELLO -----------  as soon as the client is there: versions and limits
    INIT ------------------------------------>   which interface, which mode, the secret
    ADD_REGION + memory descriptor ---------->   once for each region
    ADD_RING + eventfd ---------------------->   once for each ring, slave-to-master rings first
    CONNECT --------------------------------->   nothing more to offer
                          <-- CONNECTED -------  the memory is mapped, both ends may use the rings

INIT, ADD_REGION and ADD_RING are each answered by one ACK; CONNECT is answered by CONNECTED instead. The
slave waits for each answer, because peers send one queued message for each that they receive: too few
answers stall the other side, too many make it run ahead. DISCONNECT may come from either side at any time
and is not answered.

Both roles run on one table. A row says: in this state, at this event, call that method, then be in the next
state. Whatever has no row is a breach of protocol and ends the connection. Events are the types of the
peer's messages and a few things that our own side does (`Local`): starting, supplying memory, accepting
memory. That the ACK of the last ring leads elsewhere than all ACKs before is also expressed as an event, so
the table needs no conditions.

There are only three ways out of a running handshake: `UP`, an error that a method raises (told to the peer
by DISCONNECT, whatever existing implementations do, so that its user learns the reason as well), or the
peer's leaving. All ways to the end pass through one function, which releases every descriptor that the peer
had sent so far.

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
    """Where a handshake stands; the value completes the sentence "the connection ended while …"."""

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
    """Events that do not come as a message of their own type."""

    START = enum.auto()
    OFFER = enum.auto()
    LAST_ACK = enum.auto()
    ACCEPT = enum.auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table: the method to call and the state after it."""

    handler: str
    state: State


_M, _S = Role.MASTER, Role.SLAVE

#: What happens next, by role, state and event.
TRANSITIONS: dict[tuple[Role, State, MessageType | Local], Step] = {
    (_S, State.IDLE, Local.START): Step("_on_start", State.WAIT_HELLO),
    (_S, State.WAIT_HELLO, MessageType.HELLO): Step("_on_hello", State.WAIT_MEMORY),
    (_S, State.WAIT_MEMORY, Local.OFFER): Step("_on_offer", State.WAIT_ACK),
    (_S, State.WAIT_ACK, MessageType.ACK): Step("_send_next", State.WAIT_ACK),
    (_S, State.WAIT_ACK, Local.LAST_ACK): Step("_send_next", State.WAIT_CONNECTED),
    (_S, State.WAIT_CONNECTED, MessageType.CONNECTED): Step("_on_connected", State.UP),
    (_M, State.IDLE, Local.START): Step("_on_start", State.WAIT_INIT),
    (_M, State.WAIT_INIT, MessageType.INIT): Step("_on_init", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.ADD_REGION): Step("_on_add_region", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.ADD_RING): Step("_on_add_ring", State.WAIT_OFFER),
    (_M, State.WAIT_OFFER, MessageType.CONNECT): Step("_on_connect", State.WAIT_MAPPING),
    (_M, State.WAIT_MAPPING, Local.ACCEPT): Step("_on_accept", State.UP),
}
TRANSITIONS.update(
    ((role, state, MessageType.DISCONNECT), Step("_on_disconnect", State.CLOSED))
    for role in Role
    for state in State
    if state is not State.CLOSED
)

# A silent end says something about some peers.
_SILENCE = {
    State.WAIT_ACK: " (some masters do so when they have no interface of this id, or speak another version)",
}

_Handler = Callable[[Any, int | None], list[Action]]


class Handshake:
    """What both roles share. Not thread safe; the owner of the socket calls it from one thread at a time.

    Call `start` first, then `receive` for each datagram, `eof` when the peer has closed, `tick` when
    `deadline` has come, and carry out the actions that each call returns, in order. No call raises because
    of what the peer did.
    """

    role: ClassVar[Role]

    #: Program name of the peer, "" until it is known; printable text.
    peer_name: str
    #: Interface name of the peer, "" until it is known; printable text.
    peer_if_name: str
    #: Outcome of the handshake, None until the numbers are settled.
    negotiated: Negotiated | None
    #: How the connection ended, None while it has not.
    closed: Close | None

    def __init__(self, now: float, timeout: float) -> None:
        self.peer_name = self.peer_if_name = ""
        self.negotiated = None
        self.closed = None
        self._state = State.IDLE
        self._deadline = now + timeout
        # Descriptors from the peer that are neither closed nor given to the owner yet.
        self._held: list[int] = []

    @property
    def state(self) -> State:
        """Where the handshake stands."""
        return self._state

    @property
    def deadline(self) -> float | None:
        """When to call `tick`, on the same clock as the constructor's `now`; None if nothing is awaited."""
        return None if self._state in (State.UP, State.CLOSED) else self._deadline

    @property
    def disconnect_reason(self) -> str | None:
        """Bare text of the DISCONNECT message that ended the connection; None before, "" without a text."""
        return None if self.closed is None else self.closed.reason

    def start(self) -> list[Action]:
        """Begin; the master sends its HELLO. Raises `MemifStateError` on a second call."""
        return self._local(Local.START)

    def receive(self, data: bytes, fds: Sequence[int] = (), *, truncated: bool = False) -> list[Action]:
        """Handle one datagram and the descriptors that came with it; these are the handshake's from now on.

        `truncated` says that the kernel had to cut the bytes or the descriptors (MSG_TRUNC, MSG_CTRUNC).
        Empty `data` means that the peer has closed, as for `eof`.
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
        """End the connection on our own wish; `reason` is sent to the peer. Does nothing after the end."""
        return self._leave(Cause.LOCAL, reason, ErrorCode.DISCONNECTED)

    def refuse(self, reason: str, *, code: ErrorCode = ErrorCode.SYSCALL) -> list[Action]:
        """End the connection because its memory could not be made, mapped or trusted; `reason` is sent."""
        return self._leave(Cause.REFUSED, reason, code)

    def _datagram(self, data: bytes, fds: list[int], truncated: bool) -> list[Action]:
        if truncated:
            raise broken(MALFORMED)
        message = decode(data)
        wanted = isinstance(message, AddRegion | AddRing)
        if wanted and len(fds) > 1:
            raise broken(SPARE_FD)  # there is no telling which one is meant
        actions = self._step(message.TYPE, message, fds[0] if wanted and fds else None)
        # A descriptor beside any other message is useless but harmless: no known peer sends one.
        return actions if wanted or self.closed else self._release(fds) + actions

    def _step(self, event: MessageType | Local, message: Any = None, fd: int | None = None) -> list[Action]:
        step = TRANSITIONS.get((self.role, self._state, self._classify(event)))
        if step is None:
            raise broken(UNEXPECTED, f"({event.name})")
        handler: _Handler = getattr(self, step.handler)
        actions = handler(message, fd)
        self._state = step.state
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
        """End from our side: tell the peer why, then as `_end`."""
        if self._state is State.CLOSED:
            return []
        goodbye = Disconnect.because(reason, code)
        return [Send(goodbye), *self._end(cause, goodbye.reason, code, reason or "disconnected")]

    def _end(self, cause: Cause, reason: str, code: ErrorCode, text: str, hint: str = "") -> list[Action]:
        """The only way into `CLOSED`: release what is held, and close once."""
        if self._state is State.CLOSED:
            return []
        was_up = self._state is State.UP
        if not was_up and cause is not Cause.LOCAL:
            text = f"{text}, while {self._state.value}{hint}"
        self._state = State.CLOSED
        self.closed = Close(reason, cause, code, text, was_up)
        return [*self._release(), self.closed]

    def _release(self, fds: Sequence[int] | None = None) -> list[Action]:
        """Stop holding `fds`, or everything, and have them closed."""
        gone = list(self._held if fds is None else fds)
        self._take(gone)
        return [CloseFd(fd) for fd in gone]

    def _take(self, fds: Sequence[int]) -> None:
        """Stop holding `fds`, which become someone else's."""
        for fd in fds:
            self._held.remove(fd)
