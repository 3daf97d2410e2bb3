"""Every operation in any order, on both sides at once, against a reference that knows no shared memory."""

import random
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ring.world import World

SIDES = st.booleans()
COUNTS = st.integers(1, 40)
LENGTHS = st.lists(st.integers(0, 400), max_size=12)
SMALL_LENGTHS = st.lists(st.integers(1, 64), max_size=20)
WHICH = st.integers(0, 7)


class Machine(RuleBasedStateMachine):
    """Drives a `World`."""

    world: World

    @initialize(
        log2=st.integers(0, 4),
        room=st.sampled_from([1, 48, 64, 100]),
        headroom=st.sampled_from([0, 1, 32]),
        cache_line=st.sampled_from([64, 128]),
    )
    def begin(self, log2: int, room: int, headroom: int, cache_line: int) -> None:
        self.world = World(log2, room, headroom if headroom < room else 0, cache_line)

    @rule(
        slave=SIDES, lengths=LENGTHS | SMALL_LENGTHS, kind=st.sampled_from(["bytes", "bytearray", "view", "iterator"])
    )
    def send(self, **arguments: Any) -> None:
        self.world.send(**arguments)

    @rule(
        slave=SIDES,
        lengths=LENGTHS | SMALL_LENGTHS,
        width=st.sampled_from([None, 0, 1]),
        spread=st.sampled_from([0, 3]),
    )
    def send_array(self, **arguments: Any) -> None:
        self.world.send_array(**arguments)

    @rule(slave=SIDES, count=COUNTS, size=st.none() | st.integers(1, 400))
    def alloc(self, **arguments: Any) -> None:
        self.world.alloc(**arguments)

    @rule(slave=SIDES, i=WHICH, by=st.integers(0, 99))
    def shorten_open(self, **arguments: Any) -> None:
        self.world.shorten_open(**arguments)

    @rule(slave=SIDES, count=st.none() | COUNTS, cancel=st.booleans())
    def finish_open(self, **arguments: Any) -> None:
        self.world.finish_open(**arguments)

    @rule(slave=SIDES, count=COUNTS)
    def recv(self, **arguments: Any) -> None:
        self.world.recv(**arguments)

    @rule(which=WHICH, drop=st.booleans())
    def release(self, **arguments: Any) -> None:
        self.world.release(**arguments)

    @rule(which=WHICH, i=WHICH, byte=st.integers(0, 255))
    def write(self, **arguments: Any) -> None:
        self.world.write(**arguments)

    @rule(which=WHICH, width=st.integers(1, 200))
    def scatter(self, **arguments: Any) -> None:
        self.world.scatter(**arguments)

    @rule(which=WHICH, i=WHICH, by=st.integers(0, 99))
    def shorten(self, **arguments: Any) -> None:
        self.world.shorten(**arguments)

    @rule(which=WHICH, count=st.integers(0, 33))
    def prepend(self, **arguments: Any) -> None:
        self.world.prepend(**arguments)

    @rule(
        which=WHICH,
        start=st.integers(0, 3),
        stop=st.none() | st.integers(-2, 6),
        chosen=st.none() | st.lists(st.booleans(), min_size=1, max_size=5),
        copy=st.booleans(),
    )
    def forward(self, **arguments: Any) -> None:
        self.world.forward(**arguments)

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "world"):
            self.world.agree()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.finish()
            finally:
                self.world.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def step(world: World, chance: random.Random) -> None:
    """One random operation, sized for the ring."""
    size, slave = world.size, chance.random() < 0.5
    few, longest = max(size // 4, 2), 3 * world.room
    lengths = [chance.randint(1, chance.choice((world.room // 2, longest))) for _ in range(chance.randint(0, few))]
    what = chance.randrange(10)
    if what < 2:
        world.send(slave, lengths, chance.choice(("bytes", "bytearray", "view", "iterator")))
    elif what == 2:
        world.send_array(slave, lengths, chance.choice((None, 0, 1)), chance.choice((0, 5)))
    elif what == 3:
        world.alloc(slave, chance.randint(1, few), chance.choice((None, world.room // 2, longest)))
        world.shorten_open(slave, chance.randrange(few), chance.randrange(world.room))
        world.finish_open(slave, chance.choice((None, chance.randint(1, few))), chance.random() < 0.3)
    elif what < 6:
        world.recv(slave, chance.randint(1, 2 * few))
    elif what == 6:
        world.prepend(chance.randrange(8), chance.randrange(4))
        world.shorten(chance.randrange(8), chance.randrange(few), chance.randrange(world.room))
    elif what == 7:
        stop = chance.choice((None, chance.randint(0, few)))
        world.forward(chance.randrange(8), chance.choice((0, 1)), stop, chance.choice((None, [True, False])), slave)
    else:
        world.release(chance.randrange(8), drop=chance.random() < 0.3)
    while len(world.held) > 6:
        world.release(0, drop=False)


@pytest.mark.parametrize("log2", [0, 1, 2, 5, 8, 10, 12, 14])
def test_ring_sizes(log2: int) -> None:
    """Random operations on rings of all sizes; the large ones go round once at least."""
    chance = random.Random(log2)
    world = World(log2, 64, headroom=8)
    try:
        for _ in range(200 if log2 < 12 else 40):
            step(world, chance)
            world.agree()
        world.finish()
    finally:
        world.close()
