"""What interrupts calls, and the calls that are interrupted."""

import contextlib
import ctypes
import gc
import importlib.util
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

import memif
from misuse.calls import EXPECTED, Judge
from misuse.objects import ENTRIES
from misuse.situations import use
from misuse.world import PACKETS, World

MATRIX = np.zeros((2, 60), "u1")
INTERRUPTIONS: dict[str, Callable[[Judge], None]] = {}
#: Whose calls are interrupted: what has native code under it, and the shells.
_TARGETS = (
    "receive queue, slave",
    "transmit queue, master",
    "received burst, slave",
    "allocated burst, master",
    "interface, slave",
    "libmemif connection, slave",
    "libmemif buffer, master",
)


def interruption(function: Callable[[Judge], None]) -> Callable[[Judge], None]:
    """Put a function into the table."""
    INTERRUPTIONS[function.__name__.replace("_", " ")] = function
    return function


def ending(world: World, thing: Any, dice: random.Random) -> Callable[[], None]:
    """Something that takes the object away; another way each time."""

    def act() -> None:
        way = dice.randrange(5)
        with contextlib.suppress(*EXPECTED, RuntimeError, AttributeError):
            if way == 0:
                world.close()
            elif way == 1:
                world.other.disconnect("interrupted")
            elif way == 2:
                world.own.close()
            elif way == 3 and hasattr(thing, "release"):
                thing.release()
            else:
                gc.collect()

    return act


@contextlib.contextmanager
def target(name: str) -> Iterator[tuple[World, Any]]:
    """Context: one of the objects of the table, in a world of its own."""
    world = ENTRIES[name].world()
    try:
        yield world, ENTRIES[name].make(world)
    finally:
        world.end()


def interrupted(judge: Judge, arm: Callable[[Callable[[], None], random.Random], Any], rounds: int = 4) -> None:
    """Make all calls of each target while `arm` (a context) lets something act in the middle of them."""
    for name in _TARGETS:
        for seed in range(rounds):
            dice = random.Random(f"{name}{seed}")
            own = Judge(RuntimeError, AttributeError, dice=dice, quiet=True)
            with target(name) as (world, thing):
                with arm(ending(world, thing, dice), dice):
                    use(ENTRIES[name], own, thing, world)
                del thing
            judge.faults += [f"{name}, seed {seed}: {text}" for text in own.faults]


class _Bomb:
    """A piece of garbage that acts when it is collected."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.me = act, self

    def __del__(self) -> None:
        self.act()


@interruption
def a_collection_in_every_call(judge: Judge) -> None:
    """The collector runs at every allocation, and one time in some a finalizer ends everything."""

    @contextlib.contextmanager
    def arm(act: Callable[[], None], dice: random.Random) -> Iterator[None]:
        left = [dice.randrange(400)]

        def started(phase: str, _: object) -> None:
            left[0] -= 1
            if left[0] == 0 and phase == "start":
                _Bomb(act)

        before = gc.get_threshold()
        gc.callbacks.append(started)
        gc.set_threshold(1, 1, 1)
        try:
            yield
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(started)

    interrupted(judge, arm, rounds=3)


def _tracing(install: Callable[[Any], None], every: int) -> Callable[[Callable[[], None], random.Random], Any]:
    @contextlib.contextmanager
    def arm(act: Callable[[], None], dice: random.Random) -> Iterator[None]:
        left = [dice.randrange(1, every)]

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            left[0] -= 1
            if left[0] == 0:
                act()
            return trace

        install(trace)
        try:
            yield
        finally:
            install(None)

    return arm


@interruption
def a_trace_function(judge: Judge) -> None:
    interrupted(judge, _tracing(sys.settrace, 3000))


@interruption
def a_profile_function(judge: Judge) -> None:
    """It also sees calls of compiled functions begin and end."""
    interrupted(judge, _tracing(sys.setprofile, 1500))


@interruption
def signals(judge: Judge) -> None:
    """A signal's handler runs between any two steps of Python code, and in calls that wait."""

    @contextlib.contextmanager
    def arm(act: Callable[[], None], dice: random.Random) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, lambda *_: act())
        step = dice.choice([2e-4, 1e-3, 5e-3])
        signal.setitimer(signal.ITIMER_REAL, step, step)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    interrupted(judge, arm)


@interruption
def finalizers_that_use_what_goes(judge: Judge) -> None:
    """Objects of a link in one cycle, with finalizers that use all others, collected in every order."""
    for seed in range(40):
        dice = random.Random(seed)
        world = World(dice.choice(["slave", "master"]))
        own = world.own
        things: list[Any] = [
            own,
            own.rx[0],
            own.tx[0],
            world.burst(),
            own.tx[0].alloc(2, 60),
            own.rx[0].ring,
            own.socket,
        ]
        things += [things[3][0], iter(things[3]), np.frombuffer(things[3][1], "u1"), things[3].lengths]
        dice.shuffle(things)

        class User:
            def __init__(self, mine: Any, all_of_them: list[Any]) -> None:
                self.mine, self.all = mine, all_of_them

            def __del__(self) -> None:
                for thing in self.all:
                    with contextlib.suppress(*EXPECTED, AttributeError):
                        len(thing)
                    for name in ("release", "tobytes", "send", "recv", "close", "free"):
                        with contextlib.suppress(*EXPECTED, AttributeError):
                            getattr(thing, name)(*([1, 0] if name == "recv" else []))

        users = [User(thing, things) for thing in things]
        things.append(users)
        del things, users, own
        world.__dict__.clear()
        gc.collect()


def _without_memory(judge: Judge, work: Callable[[], object], steps: int) -> None:
    import _testcapi

    for start in range(steps):
        error: BaseException | None = None
        try:
            _testcapi.set_nomemory(start, start + 1)
            work()
        except BaseException as caught:
            error = caught
        finally:
            _testcapi.remove_mem_hooks()
        if error is not None and not isinstance(error, (MemoryError, *EXPECTED)) and not _numpys_own(error):
            judge.fault(f"allocation {start} failed: {error!r}")
        error = None


def _numpys_own(error: BaseException) -> bool:
    """numpy's reductions (min, max, all) fail without MemoryError when there is no memory."""
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0].f_code.co_filename
    return isinstance(error, SystemError) and innermost.startswith(os.path.dirname(np.__file__))


# Not in here: `details()`. Without memory for the cell of an argument that an inner function or generator expression
# uses, CPython (seen in 3.11 and 3.12) keeps a reference to the argument for ever: `def f(x): return lambda: x`.
MEMORY: dict[str, Callable[[World], Callable[[], object]]] = {
    "recv": lambda w: lambda: w.own.rx[0].recv(2, timeout=0).release(),
    "recv_packet": lambda w: lambda: w.own.rx[0].recv_packet(0),
    "recv_list": lambda w: lambda: w.own.rx[0].recv_list(2, 0),
    "recv_array": lambda w: lambda: w.own.rx[0].recv_array(64, 2, 0),
    "serve": lambda w: lambda: w.own.rx[0].serve(ctypes.CDLL(None).getpid, w.own.tx[0], timeout=0),
    "views": lambda w: (lambda burst: lambda: [bytes(view) for view in burst])(w.burst()),
    "slice": lambda w: (lambda burst: lambda: burst[:])(w.burst()),
    "tobytes": lambda w: (lambda burst: lambda: burst.tobytes())(w.burst()),
    "columns": lambda w: (lambda b: lambda: (b.lengths, b.offsets, b.regions, b.flags, b.memory))(w.burst()),
    "gather": lambda w: (lambda burst: lambda: burst.gather(64))(w.burst()),
    "fragments": lambda w: (lambda burst: lambda: burst.fragments(0))(w.burst()),
    "send": lambda w: lambda: w.own.tx[0].send(PACKETS[:2]),
    "send_packet": lambda w: lambda: w.own.tx[0].send_packet(PACKETS[0]),
    "send an iterator": lambda w: lambda: w.own.tx[0].send(iter(PACKETS[:2])),
    "send_array": lambda w: lambda: w.own.tx[0].send_array(MATRIX, [60, 60]),
    "stats": lambda w: lambda: (w.own.stats, w.own.rx[0].stats, w.own.tx[0].stats, repr(w.own), repr(w.own.rx[0])),
    "alloc": lambda w: lambda: w.own.tx[0].alloc(2, 60).release(),
    "alloc and send": lambda w: lambda: w.own.tx[0].alloc(1, 60).send(),
    "forward": lambda w: lambda: w.own.tx[0].forward(w.own.rx[0].recv(1, timeout=0)),
}


def _memory(name: str) -> Callable[[Judge], None]:
    def run(judge: Judge) -> None:
        if importlib.util.find_spec("_testcapi") is None:
            return
        for side in ("slave", "master"):
            world = World(side)
            work = MEMORY[name](world)
            work()
            _without_memory(judge, work, 60)
            gc.collect()
            # Nothing is lost: the same end still sends and receives.
            work = None  # type: ignore[assignment]
            gc.collect()
            while len(rest := world.own.rx[0].recv(64, timeout=0)):
                rest.release()
            for one, two in ((world.own, world.other), (world.other, world.own)):
                while len(rest := two.rx[0].recv(64, timeout=0)):
                    rest.release()
                del rest
                for _ in range(3):
                    if one.tx[0].send([b"alive" * 20] * 16) != 16:
                        judge.fault(f"{name}: buffers of the {side}'s link are lost: {one.tx[0].free()} are free")
                    if len(got := two.rx[0].recv(64, timeout=1.0)) != 16:
                        judge.fault(f"{name}: {len(got)} of 16 packets arrive")
                    got.release()
            world.end()

    return run


for _name in MEMORY:
    INTERRUPTIONS[f"no memory in {_name}"] = _memory(_name)


@interruption
def threads_that_close(judge: Judge) -> None:
    """Another thread ends everything while native loops run without the interpreter lock."""
    for seed in range(8):
        dice = random.Random(seed)
        world = World(dice.choice(["slave", "master"]))
        matrix = np.zeros((32, 2000), "u1")

        def work(world: World = world, matrix: Any = matrix) -> None:
            own, other = world.own, world.other
            with contextlib.suppress(memif.MemifError):
                while True:
                    own.tx[0].send_array(matrix)
                    burst = other.rx[0].recv(32, timeout=0)
                    burst.gather(2000)
                    other.tx[0].forward(burst)
                    burst.release()
                    own.rx[0].recv(32, timeout=0).release()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(dice.random() * 0.02)
        world.close()
        for thread in threads:
            thread.join(10)
            if thread.is_alive():
                judge.fault("a thread does not end")
        del work, threads
        world.end()
