"""Every call that a public object takes, with arguments that fit and arguments that do not, and what may come of it."""

import asyncio
import contextlib
import copy
import ctypes
import errno
import gc
import inspect
import math
import operator
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import memif
from misuse.world import PACKETS, World

#: What any call may raise: it says what was wrong.
EXPECTED = (
    memif.MemifError,
    TypeError,
    ValueError,
    OverflowError,
    IndexError,
    BufferError,
    EOFError,
    StopIteration,
    StopAsyncIteration,
    NotImplementedError,
    asyncio.CancelledError,
    TimeoutError,
    pickle.PicklingError,
    copy.Error,
)
#: Errors of broader kinds that are as clear.
_TEXTS = (
    "never set up",
    "set up only once",
    "only the slave",
    "event loop",
    "already awaited",
    "is not writable",
    "readonly attribute",
    "read-only",
    "no setter",
    "no deleter",
    "cannot assign to field",
    "cannot delete field",
    "can't pickle",
    "cannot pickle",
    "can't set attribute",
    "can't delete attribute",
    "generator already executing",
)


_COPIES = ("copy", "deepcopy", "pickle")


def _descriptors() -> set[str]:
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return set(os.listdir(directory))
    finally:
        os.close(directory)


def _at_rest() -> set[str]:
    """The descriptors once other threads have left them alone for a while, 5 seconds at most."""
    found, deadline = _descriptors(), time.monotonic() + 5.0
    while time.monotonic() < deadline:
        time.sleep(0.1)
        before, found = found, _descriptors()
        if found == before:
            break
    return found


class BlockedError(Exception):
    """Raised by the alarm inside a call that would wait for ever."""


class Evil:
    """A number, text, list and path, which does something else first whenever anybody looks at it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __index__(self) -> int:
        self.act()
        return 1

    __int__ = __len__ = __index__

    def __float__(self) -> float:
        self.act()
        return 0.0

    def __bool__(self) -> bool:
        self.act()
        return True

    def __iter__(self) -> Iterator[bytes]:
        self.act()
        return iter([b"x" * 60])

    def __getitem__(self, index: Any) -> Any:
        self.act()
        if index != 0:
            raise IndexError(index)
        return b"x" * 60

    def __fspath__(self) -> str:
        self.act()
        return "@evil"

    def __str__(self) -> str:
        self.act()
        return "evil"

    __repr__ = __str__

    def __hash__(self) -> int:
        self.act()
        return 1

    def __eq__(self, other: object) -> bool:
        self.act()
        return False


def act_in_pieces(act: Callable[[], object]) -> Iterator[bytes]:
    """Packets from a generator that does something else between them."""
    yield b"x" * 60
    act()
    yield b"y" * 60


def junk() -> list[Any]:
    """Values that hardly any argument may have."""
    return [None, -1, 0, 1 << 70, 1.5, math.nan, "x", "\ud800", b"", [], [None], {}, object(), Burdened(), len]


class Burdened:
    """Says yes to all protocols, and then fails."""

    def __index__(self) -> int:
        raise ValueError("no number")

    def __len__(self) -> int:
        raise ValueError("no length")

    def __iter__(self) -> Iterator[Any]:
        raise ValueError("no items")


def fitting(name: str, world: World, thing: Any) -> list[Any]:
    """Values that an argument of this name can have; the first is the one that is used while others vary."""
    if name == "timeout" or name == "remain":
        return [0.01, 0, -1, math.nan, "x", [], b""]
    if name == "burst":
        return [thing] if isinstance(thing, memif.Burst) else [world.burst()] if world.linked and world.own.up else []
    makers: dict[str, Callable[[], list[Any]]] = {
        "handler": lambda: [ctypes.CDLL(None).getpid],  # a C function that ends the loop at once
        "tx": lambda: [world.own.tx[0], None, world.own.rx[0]],
        "data": lambda: [None, np.zeros(4, "u4"), bytearray(8), b"read-only", memoryview(bytes(8))[::2]],
        "until": lambda: [None, lambda: True, threading.Event()],
        "count": lambda: [4, 1, 65535, 1 << 32],
        "packets": lambda: [
            list(PACKETS),
            [b"x" * 9000],
            iter([b"x" * 60]),
            [np.zeros(60, "u1")],
            [memoryview(b"abcdef")[::2]],
            [""],
            [b""],
        ],
        "matrix": lambda: [
            np.zeros((4, 60), "u1"),
            np.zeros((4, 60), "u1")[::-1],
            np.zeros((4, 0), "u1"),
            np.zeros((0, 60), "u1"),
            np.zeros((2, 70000), "u1"),
            np.zeros((4, 60), "u2"),
            memoryview(bytes(240)).cast("B", (4, 60)),
        ],
        "array": lambda: [np.zeros((3, 60), "u1"), np.zeros((3, 60), "u4"), np.zeros((3, 0), "u1"), bytes(3)],
        "lengths": lambda: [None, [60] * 4, np.full(4, 60, "u4"), [0] * 4, [1 << 40] * 4, "abcd", np.zeros((2, 2))],
        "select": lambda: [
            None,
            np.ones(3, bool),
            np.ones(4, bool),
            [True] * 3,
            b"\1" * 3,
            memoryview(b"\1\1\1\1\1\1")[::2],
            np.zeros(3, "V0"),
            np.zeros((3, 0), "u1"),
        ],
        "start": lambda: [0, 1, -1, 1 << 62],
        "stop": lambda: [None, 2, -1, 1 << 62],
        "size": lambda: [60, 9000, 65536, 1 << 40],
        "width": lambda: [64, 1, 65536, 65537],
        "out": lambda: [None, np.zeros((3, 64), "u1"), np.zeros((3, 64), "u1")[::-1], b"x" * 192],
        "i": lambda: [0, -1, 2, 99],
        "reason": lambda: ["bye", "é" * 200, "a\0b"],
        "mode": lambda: ["interrupt", "polling"],
        "keep": lambda: [False, True],
        "copy": lambda: [False, True],
        "headroom": lambda: [0, 64, 5000],
        "kind": lambda: [None, ValueError],
        "value": lambda: [None, ValueError("x")],
        "trace": lambda: [None],
        "error": lambda: [None, ValueError("x")],
        "options": list,
    }
    return makers[name]() if name in makers else []


#: Called last, since little is left of the object afterwards.
ENDS = ("close", "release", "send", "detach", "kill", "__exit__", "__aexit__", "__del__", "quit", "disconnect")
#: Ways into objects that any object has; what they do is told by the language.
PROTOCOLS: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "bool": bool,
    "len": len,
    "hash": hash,
    "eq": lambda thing: (thing == thing, thing == 5, thing != None),  # noqa: E711
    "lt": lambda thing: thing < thing,
    "contains": lambda thing: b"x" in thing,
    "first": lambda thing: thing[0],
    "last": lambda thing: thing[-1],
    "slice": lambda thing: thing[:],
    "far": lambda thing: thing[1 << 70],
    "named": lambda thing: thing["x"],
    "setitem": lambda thing: operator.setitem(thing, 0, b"x"),
    "delitem": lambda thing: operator.delitem(thing, 0),
    "iter": lambda thing: [next(each) for each in [iter(thing)] for _ in range(3)],
    "reversed": lambda thing: list(reversed(thing)),
    "memoryview": lambda thing: bytes(memoryview(thing)[:16]),
    "array": lambda thing: np.asarray(thing).dtype,
    "index": operator.index,
    "call": lambda thing: thing() if not isinstance(thing, type) else None,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: [pickle.dumps(thing, protocol) for protocol in (0, 2, 5)],
    "reduce": lambda thing: thing.__reduce__(),
    "dir": dir,
    "sizeof": lambda thing: thing.__sizeof__(),
    "attribute": lambda thing: setattr(thing, "no_such_attribute", 1),
    "with": lambda thing: thing.__enter__(),
}


#: Methods that wait for ever, as their documentation says.
WAITING = {("MemifSocket", name) for name in ("recv", "recv_raw", "sniff", "sr", "sr1", "srp", "srp1", "tshark", "am")}


class Judge:
    """Makes calls and notes what must not come of them."""

    def __init__(self, *extra: type[BaseException], dice: random.Random | None = None, quiet: bool = False) -> None:
        """extra: more kinds of errors that are fine here. quiet: not in the main thread, where nothing may wait."""
        self.extra = extra
        self.dice = dice
        self.quiet = quiet
        self.faults: list[str] = []
        self.calls = 0

    def fault(self, text: str) -> None:
        """Something that must not happen has happened."""
        if len(self.faults) < 40 and text not in self.faults:
            self.faults.append(text)

    def call(self, label: str, work: Callable[[], object], world: World | None = None) -> None:
        """Make a call, and what belongs to it if it is to be awaited."""
        self.calls += 1
        if os.environ.get("MEMIF_MISUSE_TRACE"):
            print("call", label, flush=True)
        try:
            if world is not None and world.loop is not None and not world.loop.is_running() and not self.quiet:
                world.run(_awaited(work))
            else:
                result = work()
                if inspect.iscoroutine(result):
                    result.close()
        except (*EXPECTED, *self.extra):
            pass
        except BlockedError:
            pass
        except BaseException as error:
            if not _clear(error):
                where = _place(error)
                self.fault(f"{label}: {type(error).__name__}: {error} ({where})")

    def waits(self, label: str, work: Callable[[], object], world: World | None = None) -> None:
        """Make a call that may wait for ever: a signal gets it out of there."""
        if self.quiet:
            return
        with alarm(0.03):
            self.call(label, work, world)

    def uses(
        self, thing: Any, world: World, *, name: str = "", skip: frozenset[str] = frozenset(), some: int | None = None
    ) -> None:
        """Make every call that `thing` takes, but for names in `skip`; or `some` of them."""
        label = name or type(thing).__name__
        plan = [("protocol", each) for each in PROTOCOLS]
        plan += [("name", each) for each in _names(thing) if each not in skip]
        if self.dice is not None:
            self.dice.shuffle(plan)
        for kind, each in plan[:some]:
            if kind == "protocol":
                self._protocol(label, each, thing, world)
            else:
                self._name(label, each, thing, world)

    def _protocol(self, label: str, each: str, thing: Any, world: World) -> None:
        before: set[str] = set()
        if each in _COPIES and not self.quiet:
            gc.collect()
            before = _at_rest() if world.threaded else _descriptors()
        waits = each in ("iter", "contains") and hasattr(type(thing), "recv")
        (self.waits if waits else self.call)(f"{each}({label})", lambda: PROTOCOLS[each](thing), world)
        if before:
            gc.collect()
            for lost in before - _descriptors():
                self.fault(f"{each}({label}): what came of it took descriptor {lost} away")

    def _name(self, label: str, name: str, thing: Any, world: World) -> None:
        label = f"{label}.{name}"
        found: list[Any] = []
        self.call(label, lambda: found.append(getattr(thing, name)), world)
        attribute = inspect.getattr_static(type(thing), name, None)
        if getattr(attribute, "__set__", None) is not None and not callable(found[0] if found else None):
            writable = not isinstance(attribute, property) or attribute.fset is not None
            for value in (*fitting(name, world, thing)[:1], *junk()) if writable and not _plain(attribute) else ():
                self.call(f"{label} = {short(value)}", lambda value=value: setattr(thing, name, value), world)
            self.call(f"del {label}", lambda: delattr(thing, name) if not _plain(attribute) else None, world)
        if found and callable(found[0]) and not isinstance(found[0], type):
            self.calls_of(label, found[0], thing, world)

    def calls_of(self, label: str, method: Callable[..., Any], thing: Any, world: World) -> None:
        """Call one method with all kinds of arguments."""
        for args, kwargs in arguments(method, thing, world, self.dice):
            text = f"{label}({', '.join([*map(short, args), *(f'{k}={short(v)}' for k, v in kwargs.items())])})"
            waits = (type(thing).__name__, label.rpartition(".")[2]) in WAITING
            (self.waits if waits else self.call)(text, lambda args=args, kwargs=kwargs: method(*args, **kwargs), world)


async def _awaited(work: Callable[[], object]) -> None:
    result = work()
    if inspect.isawaitable(result):
        await asyncio.wait_for(_await(result), 0.02)


async def _await(thing: Any) -> Any:
    return await thing


def _plain(attribute: object) -> bool:
    """An ordinary slot of a Python class, which belongs to whoever writes to it."""
    return inspect.ismemberdescriptor(attribute)


def _names(thing: Any) -> list[str]:
    """Public names, those that end the object last."""
    specials = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__del__", "__aiter__")
    names = [n for n in dir(thing) if (not n.startswith("_") or n in specials) and n not in ("mro", "base")]
    return sorted(names, key=lambda n: (n in ENDS, n))


def _clear(error: BaseException) -> bool:
    text = str(error)
    if isinstance(error, (RuntimeError, AttributeError)) and any(part in text for part in _TEXTS):
        return not isinstance(error, RecursionError)
    if isinstance(error, AttributeError):
        if "Can't pickle" in text:
            return True
        return "object has no attribute" in text and _place(error) == "the call"
    if isinstance(error, OSError):
        return error.errno not in (errno.EBADF, None)
    return False


def _place(error: BaseException) -> str:
    """The innermost place in the package, or "the call"."""
    place, trace = "the call", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/memif/" in file and "/tests/" not in file:
            place = f"{file.split('/memif/')[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def short(value: object) -> str:
    """A value in few letters; an evil one is not asked."""
    if isinstance(value, Evil):
        return "<evil>"
    try:
        return repr(value)[:40].replace("\n", " ")
    except Exception:
        return f"<{type(value).__name__}>"


#: Methods whose arguments would make the test itself lose descriptors, or wait.
_KEPT = {"listener_fd", "control_fd", "event_fd", "fd"}


def arguments(
    method: Callable[..., Any], thing: Any, world: World, dice: random.Random | None = None
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments to call a method with: each in turn takes all values, while the others take the first."""
    try:
        parameters = [p for p in inspect.signature(method).parameters.values() if p.name not in ("args", "kwargs")]
    except (TypeError, ValueError):
        yield (), {}
        for value in junk():
            yield (value,), {}
        return
    parameters = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL]
    values = {p.name: _values(p, world, thing) for p in parameters}
    if dice is not None:
        for _ in range(4):
            yield _bound(parameters, {p.name: dice.choice(values[p.name]) for p in parameters})
        return
    first = {p.name: values[p.name][0] for p in parameters}
    yield _bound(parameters, first)
    for p in parameters:
        for value in values[p.name][1:]:
            yield _bound(parameters, {**first, p.name: value})


def _values(parameter: inspect.Parameter, world: World, thing: Any) -> list[Any]:
    try:
        values = fitting(parameter.name, world, thing)
    except memif.MemifError:  # there is no burst without a link
        values = []
    if not values and parameter.default is not parameter.empty:
        values = [parameter.default]
    if parameter.name not in ("timeout", "remain"):
        values = values + junk()
    return values


def _bound(parameters: list[inspect.Parameter], values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    by_place = tuple(values[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY)
    return by_place, {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Context: after so many seconds a signal's handler raises `BlockedError`."""

    def ring(*_: object) -> None:
        raise BlockedError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except BlockedError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
