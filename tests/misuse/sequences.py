"""Random sequences of calls over many objects at once, with ends of links, forks and collections between them."""

import contextlib
import gc
import os
import random
import threading
from typing import Any

from misuse.calls import EXPECTED, Judge
from misuse.objects import ENTRIES, Entry, usable
from misuse.situations import use
from misuse.world import World

#: What starts processes, or is slow to make.
_SLOW = {"sniffer", "hostile peer", "tap", "packet socket", "scapy socket"}
_STEPS = 120


def run(seed: int, judge: Judge) -> None:
    """One sequence; the same seed gives the same one, apart from what threads make of it."""
    dice = random.Random(seed)
    names = [name for name in usable() if name not in _SLOW and not ENTRIES[name].looped]
    places: list[tuple[Entry, World, Any]] = []
    own = Judge(RuntimeError, AttributeError, KeyError, dice=dice, quiet=True)
    for name in dice.sample(names, 4):
        _place(name, places)
    for _ in range(_STEPS):
        if not places:
            break
        _step(dice, own, places, names)
    for _, world, _ in places:
        world.end()
    places.clear()
    gc.collect()
    judge.faults += own.faults


def _place(name: str, places: list[tuple[Entry, World, Any]]) -> None:
    entry = ENTRIES[name]
    world = entry.world()
    places.append((entry, world, entry.make(world)))


def _step(dice: random.Random, judge: Judge, places: list[tuple[Entry, World, Any]], names: list[str]) -> None:
    at = dice.randrange(len(places))
    entry, world, thing = places[at]
    what = dice.randrange(40)
    with contextlib.suppress(*EXPECTED, RuntimeError):
        if what == 0:
            world.cut()
        elif what == 1:
            world.close()
        elif what == 2:
            gc.collect()
        elif what == 3:
            _forked(judge, entry, thing, world)
        elif what == 4 and entry.threads:
            thread = threading.Thread(target=use, args=(entry, judge, thing, world, 10))
            thread.start()
            use(entry, judge, thing, world, 10)
            thread.join()
        elif what == 5 and len(places) < 8:
            _place(dice.choice(names), places)
        elif what == 6:
            # The world goes on without the object, or the object without its world.
            places[at] = (entry, World(), thing) if dice.random() < 0.5 else (entry, world, None)
            world.end() if places[at][2] is thing else None
        elif what == 7:
            # The object in the world of another.
            use(entry, judge, thing, dice.choice(places)[1], 3)
        else:
            use(entry, judge, thing, world, 3)


def _forked(judge: Judge, entry: Entry, thing: Any, world: World) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            use(entry, judge, thing, world, 5)
            gc.collect()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status:
        judge.fault(f"a forked child ended with wait status {status}")
