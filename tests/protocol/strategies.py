"""Hypothesis strategies for control messages: every message that can be built."""

from hypothesis import strategies as st

from memif.protocol.wire import (
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Disconnect,
    Hello,
    Init,
    Message,
)


def text(maximum: int) -> st.SearchStrategy[str]:
    characters = st.characters(codec="utf-8").filter(str.isprintable)
    return st.text(characters, max_size=maximum).filter(lambda value: len(value.encode()) <= maximum)


def uint(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


SECRETS = st.binary(max_size=24).filter(lambda value: b"\0" not in value)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.just(Ack()),
    st.builds(Hello, text(31), uint(16), uint(16), uint(16), uint(16), uint(16), uint(8)),
    st.builds(Init, uint(32), uint(8), SECRETS, text(31), uint(16)),
    st.builds(AddRegion, uint(16), uint(64)),
    st.builds(AddRing, st.booleans(), uint(16), uint(16), uint(32), uint(8), uint(16)),
    st.builds(Connect, text(31)),
    st.builds(Connected, text(31)),
    st.builds(Disconnect, uint(32), text(95)),
)
