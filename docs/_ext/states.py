"""The handshake's transition table, as a table and as a drawing, one column a role."""

from html import escape

from memif.protocol.handshake import TRANSITIONS, Local, Role, State
from memif.protocol.wire import MessageType
from text import table

_WIDTH, _STEP, _TOP, _BOX = 390, 92, 58, (262, 40)
_OWN = {
    Local.START: "start",
    Local.OFFER: "memory made",
    Local.LAST_ACK: "ACK (the last)",
    Local.ACCEPT: "memory mapped",
}


def label(event: MessageType | Local) -> str:
    """What an event is called for readers."""
    return _OWN[event] if isinstance(event, Local) else event.name


def table_rows() -> list[tuple[str, str, str, str]]:
    """Role, state, event, next state; DISCONNECT, which is allowed everywhere, left out."""
    return [
        (role.value, f"`{state.name}`", label(event), f"`{step.state.name}`")
        for (role, state, event), step in TRANSITIONS.items()
        if event is not MessageType.DISCONNECT
    ]


def table_text() -> str:
    """The whole table."""
    return table(("role", "in state", "event", "then"), table_rows())


def path(role: Role) -> list[State]:
    """The states of `role` from the first to `State.UP`, in order: every handshake is one chain with loops."""
    chain = [State.IDLE]
    while chain[-1] is not State.UP:
        onward = {
            step.state
            for (r, state, event), step in TRANSITIONS.items()
            if r is role and state is chain[-1] and step.state not in (state, State.CLOSED)
        }
        if len(onward) != 1:
            raise AssertionError(f"{role} {chain[-1]}: the drawing needs one way onward, not {onward}")
        chain.append(onward.pop())
    return chain


def _events(role: Role, start: State, end: State) -> str:
    names = [
        label(event) for (r, state, event), step in TRANSITIONS.items() if (r, state, step.state) == (role, start, end)
    ]
    return " / ".join(names)


def _box(x: float, y: float, state: State, kind: str) -> str:
    width, height = _BOX
    return (
        f'<rect class="box {kind}" x="{x - width / 2}" y="{y}" width="{width}" height="{height}" rx="7"/>'
        f'<text class="mono head" x="{x}" y="{y + 17}" text-anchor="middle">{state.name}</text>'
        f'<text class="small" x="{x}" y="{y + 32}" text-anchor="middle">{escape(state.value)}</text>'
    )


def _column(role: Role, x: float) -> str:
    parts = [f'<text class="head" x="{x}" y="30" text-anchor="middle">{role.value}</text>']
    chain = path(role)
    for row, state in enumerate(chain):
        y = _TOP + row * _STEP
        parts.append(_box(x, y, state, role.value))
        loop = _events(role, state, state)
        if loop:
            edge = x + _BOX[0] / 2
            parts.append(
                f'<path class="line" marker-end="url(#arrow)" d="M{edge},{y + 10} h16 v20 h-12"/>'
                f'<text class="small" x="{edge + 20}" y="{y + 17}">{escape(loop.split(" / ")[0])}</text>'
                + "".join(
                    f'<text class="small" x="{edge + 20}" y="{y + 31 + 13 * i}">{escape(name)}</text>'
                    for i, name in enumerate(loop.split(" / ")[1:])
                )
            )
        if row + 1 < len(chain):
            parts.append(
                f'<path class="line" marker-end="url(#arrow)" d="M{x},{y + _BOX[1]} v{_STEP - _BOX[1] - 4}"/>'
                f'<text x="{x + 8}" y="{y + _BOX[1] + 28}">{escape(_events(role, state, chain[row + 1]))}</text>'
            )
    return "".join(parts)


def table_height() -> int:
    """Pixels that the longer column needs."""
    return _TOP + _STEP * max(len(path(role)) for role in Role) - 30


def drawing() -> str:
    """Both roles side by side."""
    columns = _column(Role.SLAVE, 150) + _column(Role.MASTER, 150 + _WIDTH)
    return (
        f'<svg class="drawing" role="img" aria-label="States of the handshake" viewBox="0 0 {2 * _WIDTH} '
        f'{table_height()}"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker></defs>'
        f"{columns}</svg>"
    )
