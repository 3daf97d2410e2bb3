"""The situations that every object of the table is brought into. Each runs in a process of its own."""

import atexit
import contextlib
import copy
import gc
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import memif
from memif.testing import Resources, leaked
from misuse.calls import Evil, Judge, act_in_pieces, alarm, arguments, short
from misuse.objects import ENTRIES, Entry
from misuse.world import Canary, World, making

SITUATIONS: dict[str, Callable[[Entry, Judge], None]] = {}


def situation(function: Callable[[Entry, Judge], None]) -> Callable[[Entry, Judge], None]:
    """Put a function into the table."""
    SITUATIONS[function.__name__.replace("_", " ")] = function
    return function


def use(entry: Entry, judge: Judge, thing: Any, world: World, some: int | None = None) -> None:
    """Make all calls that the object of an entry takes."""
    if thing is None:
        return
    label = type(thing).__name__
    if "*" not in entry.skip:
        judge.uses(thing, world, name=label, skip=entry.skip, some=some)
    if entry.more is not None and (some is None or judge.dice is None or not judge.dice.randrange(20)):
        entry.more(judge, thing, world, label)


@contextlib.contextmanager
def inside(entry: Entry) -> Any:
    """Context: a world with the object."""
    world = entry.world()
    try:
        yield world, entry.make(world)
    finally:
        world.end()


# -- the situations of the table


@situation
def made_by_hand(entry: Entry, judge: Judge) -> None:
    world = entry.world()
    if not entry.by_hand:
        world.end()
        return
    for kind in entry.covers:
        for thing in _made(kind, judge, world):
            own = Judge(AttributeError, KeyError, AssertionError, *entry.extra)
            own.faults = judge.faults
            own.uses(thing, world, name=f"{kind.__name__} made by hand", skip=entry.skip)
            del thing
            gc.collect()
    world.end()


def _made(kind: Any, judge: Judge, world: World) -> list[Any]:
    made: list[Any] = []
    ways: dict[str, Callable[[], Any]] = {
        "new": lambda: kind.__new__(kind),
        "object": lambda: object.__new__(kind),
        "subclass": lambda: type("Sub", (kind,), {}).__new__(type("Sub", (kind,), {})),
        "copyreg": lambda: copy.copy(kind.__new__(kind)),
        "plain": lambda: kind(),
        "two": lambda: kind(None, None),
    }
    if kind.__name__ == "MemifSocket":  # which would look for a peer
        del ways["plain"], ways["two"]
    own = Judge(AttributeError, KeyError, AssertionError)
    own.faults = judge.faults
    for way, make in ways.items():
        own.call(f"{kind.__name__} by {way}", lambda make=make: made.append(make()), world)
    return made


@situation
def in_order(entry: Entry, judge: Judge) -> None:
    """Not a misuse in itself: all calls, and then all again, when the object has been closed by one of them."""
    with inside(entry) as (world, thing):
        canary = Canary(world) if entry.canary else None
        use(entry, judge, thing, world)
        use(entry, judge, thing, world)
        for text in canary.check() if canary is not None else ():
            judge.fault(text)


@situation
def after_close(entry: Entry, judge: Judge) -> None:
    with inside(entry) as (world, thing):
        making(world, world.close)
        use(entry, judge, thing, world)


@situation
def after_the_link_is_gone(entry: Entry, judge: Judge) -> None:
    with inside(entry) as (world, thing):
        making(world, world.cut)
        use(entry, judge, thing, world)


@situation
def after_gc(entry: Entry, judge: Judge) -> None:
    """Everything else was let go, without a close."""
    world = entry.world()
    thing = entry.make(world)
    other = World("slave")
    loop = world.loop
    for name in ("m", "s", "listening", "connecting", "aio_master"):
        world.__dict__.pop(name, None)
    closers, world.kept, world.linked = world.kept, [], False
    closers = [each for each in closers if callable(each)]
    gc.collect()
    use(entry, judge, thing, other)
    del thing
    for close in closers[::-1]:
        making(world, close)
    closers.clear()
    world.loop = loop
    world.end()
    other.end()


@situation
def while_iterated(entry: Entry, judge: Judge) -> None:
    with inside(entry) as (world, thing):
        for iterate in (lambda: iter(thing), lambda: iter(world.own.rx[0])):
            iterator: Any = None
            with contextlib.suppress(Exception), alarm(0.05):
                iterator = iterate()
                next(iterator)
            use(entry, judge, thing, world)
            if iterator is not None:
                judge.waits("next of what was iterated", lambda iterator=iterator: next(iterator), world)


@situation
def from_a_second_thread(entry: Entry, judge: Judge) -> None:
    """Two threads use it, and a third closes everything in the middle."""
    if not entry.threads:
        return
    with inside(entry) as (world, thing):
        judges = [Judge(RuntimeError, *entry.extra, quiet=True) for _ in range(2)]
        loop, world.loop = world.loop, None

        def work(own: Judge) -> None:
            for _ in range(2):
                use(entry, own, thing, world)

        threads = [threading.Thread(target=work, args=(own,)) for own in judges]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        with contextlib.suppress(memif.MemifError):
            world.cut()
        time.sleep(0.01)
        for thread in threads:
            thread.join(20)
            if thread.is_alive():
                judge.fault("a thread does not come back")
        world.loop = loop
        for own in judges:
            judge.faults += [text for text in own.faults if "generator already executing" not in text]


@situation
def from_a_finalizer(entry: Entry, judge: Judge) -> None:
    world = entry.world()
    thing = entry.make(world)
    loop, world.loop = world.loop, None
    done: list[int] = []

    class Last:
        def __init__(self, held: Any) -> None:
            self.me, self.thing = self, held

        def __del__(self) -> None:
            use(entry, own, self.thing, world)
            done.append(1)

    own = Judge(RuntimeError, *entry.extra, quiet=True)
    last = Last(thing)
    del last
    gc.collect()
    if not done:
        judge.fault("the finalizer did not run to its end")
    judge.faults += own.faults
    del thing, Last
    world.loop = loop
    world.end()


@situation
def from_a_callback(entry: Entry, judge: Judge) -> None:
    """In the middle of the end of the link, and of an interrupt."""
    with inside(entry) as (world, thing):
        loop, world.loop = world.loop, None
        own = Judge(RuntimeError, *entry.extra, quiet=True)
        path = world.path + "-callback"
        with memif.Socket(path) as listening, memif.Socket(path) as connecting:
            options = {name: lambda *_: use(entry, own, thing, world) for name in ("on_connect", "on_disconnect")}
            one = listening.interface(role="master", **options)
            two = connecting.interface(reconnect=None, on_interrupt=lambda *_: use(entry, own, thing, world))
            for _ in range(50):
                listening.poll(0)
                connecting.poll(0)
                if one.up and two.up:
                    break
            with contextlib.suppress(memif.MemifError):
                one.tx[0].send([b"x" * 60])
                connecting.poll(0.1)
                two.disconnect()
                listening.poll(0.1)
        judge.faults += own.faults
        world.loop = loop


@situation
def after_fork(entry: Entry, judge: Judge) -> None:
    with inside(entry) as (world, thing):
        canary = Canary(world, everything=True)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            own = Judge(RuntimeError, *entry.extra)
            try:
                sys.unraisablehook = lambda it: own.fault(f"unraisable {it.exc_value!r} in {it.object!r}")
                use(entry, own, thing, world)
                with contextlib.suppress(memif.MemifError, RuntimeError):
                    world.close()
                del thing
                gc.collect()
                os.write(writer, "\n".join(own.faults).encode()[:8000])
                os._exit(7)
            finally:
                os._exit(8)
        os.close(writer)
        said = b""
        while more := os.read(reader, 65536):
            said += more
        os.close(reader)
        status = os.waitpid(pid, 0)[1]
        judge.faults += said.decode(errors="replace").splitlines()
        if status != 7 << 8:
            judge.fault(f"the forked child ended with wait status {status}")
        for text in canary.check():
            judge.fault(f"the forked child: {text}")


@situation
def at_exit(entry: Entry, judge: Judge) -> None:
    """Used by an atexit function, and by a finalizer that runs when the modules are taken apart; never closed."""
    world = entry.world()
    thing = entry.make(world)
    world.loop = None
    own = Judge(RuntimeError, *entry.extra, quiet=True)

    class Last:
        def __del__(self) -> None:
            for text in ("len", "repr", "release", "close"):
                with contextlib.suppress(Exception):
                    getattr(thing, text)()
            with contextlib.suppress(Exception):
                thing[0], len(thing), thing.tobytes()

    def leave() -> None:
        use(entry, own, thing, world)
        if own.faults:
            print("\n".join(f"FAULT at exit: {text}" for text in own.faults), flush=True)

    atexit.register(leave)
    sys.modules["__main__"].__dict__.update(zz_last=Last(), zz_thing=thing, zz_world=world)


@situation
def with_evil_arguments(entry: Entry, judge: Judge) -> None:
    """An argument that closes everything, while the method looks at it."""
    if "*" in entry.skip:
        return
    with inside(entry) as (_, thing):
        if thing is None:
            return
        methods = [
            name
            for name in dir(thing)
            if (not name.startswith("_") or name in ("__getitem__",)) and name not in entry.skip
        ]
    for name in methods:
        with inside(entry) as (_, thing):
            try:
                method = getattr(thing, name)
                places = list(inspect.signature(method).parameters.values()) if callable(method) else []
            except Exception:
                continue
            names = [p.name for p in places if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            method = None
        for vary in names:
            for act in ("close", "cut", "release"):
                _evil(entry, judge, name, vary, act)


def _evil(entry: Entry, judge: Judge, name: str, vary: str, act: str) -> None:
    with inside(entry) as (world, thing):
        method = getattr(thing, name)

        def do() -> None:
            with contextlib.suppress(memif.MemifError, RuntimeError):
                {"close": world.close, "cut": world.cut, "release": getattr(thing, "release", gc.collect)}[act]()
            gc.collect()

        args, kwargs = next(iter(arguments(method, thing, world)))
        bound = inspect.signature(method).bind_partial(*args, **kwargs)
        for value in (Evil(do), act_in_pieces(do)):
            bound.arguments[vary] = value
            judge.call(
                f"{type(thing).__name__}.{name}({vary} that does {act}: {short(value)[:9]})",
                lambda bound=bound: method(*bound.args, **bound.kwargs),
                world,
            )


def run(name: str, where: str) -> int:
    """Bring one object into one situation, print what is wrong. -> exit status."""
    entry = ENTRIES[name]
    World().end()  # what is loaded or opened once
    return judged(lambda judge: SITUATIONS[where](entry, judge), Judge(*entry.extra), leave=where == "at exit")


def judged(work: Callable[[Judge], None], judge: Judge | None = None, *, leave: bool = False) -> int:
    """Do `work`, print what was wrong. leave: it leaves things open on purpose. -> exit status."""
    judge = Judge() if judge is None else judge
    hook = sys.unraisablehook = lambda it: judge.fault(f"unraisable {it.exc_value!r} in {it.object!r}: {it.err_msg}")
    threading.excepthook = lambda it: judge.fault(f"in a thread: {it.exc_value!r}")
    gc.collect()
    before = Resources.now()
    work(judge)
    if leave:
        gc.unfreeze()  # else the modules' own cycles would stay, and nothing in them be finalized
    for text in () if leave else leaked(before, 1.0):
        judge.fault(f"leaked: {text}")
    for text in judge.faults:
        print("FAULT", text)
    sys.stdout.flush()
    if sys.unraisablehook is hook:
        sys.unraisablehook = sys.__unraisablehook__
    return bool(judge.faults)
