"""Every extension type of the package: cannot be made by hand, or is safe when it is."""

import copy
import gc
import importlib
import pickle
import pkgutil
import sys
from typing import Any

import numpy as np
import pytest
from memif.packet._matrix import LayerColumns, Rows

import memif.packet
import memif.ring
from children import in_child
from ring.memory import pair

MODULES = [f"memif.ring.{name}" for _, name, _ in pkgutil.iter_modules(memif.ring.__path__)]
#: The account of single buffers that is kept beside the rings; the buffers themselves are in tests/libmemif.
MODULES += ["memif.libmemif._receive", "memif.libmemif._transmit"]
MODULES += [f"memif.packet.{name}" for _, name, _ in pkgutil.iter_modules(memif.packet.__path__) if name[0] == "_"]


def compiled(kind: type) -> bool:
    """Whether a class comes from one of the modules."""
    return str(kind.__module__).startswith(("memif.ring._", *MODULES))


def extension_types() -> list[type]:
    """All of them, those that no module names included."""
    for name in MODULES:
        importlib.import_module(name)
    with pair() as (_, slave, master):
        slave.tx.send([b"x"])
        with master.rx.recv(timeout=0) as burst:
            things: list[Any] = [burst, iter(burst), burst[0].obj, burst.lengths.base.obj, slave.tx, slave.rx_ring]
            kinds = {type(thing) for thing in things}
    queue: list[type] = [object]
    seen: set[type] = set()
    while queue:
        for kind in type.__subclasses__(queue.pop()):
            if kind not in seen:
                seen.add(kind)
                queue.append(kind)
    kinds |= seen
    for name in MODULES:
        kinds |= {value for value in vars(sys.modules[name]).values() if isinstance(value, type)}
    return sorted((k for k in kinds if compiled(k) and not issubclass(k, Exception)), key=lambda k: k.__qualname__)


ARGUMENTS: list[tuple[Any, ...]] = [
    (),
    (None,),
    (0,),
    (-1,),
    (1 << 70,),
    (b"x",),
    (None, 0, -1),
    (object(), 0, -1),
    ((), 0, 0, 0),
    (1, 2, 3, 4, 5),
]
LEFT_ALONE = {"__class__", "__init_subclass__", "__subclasshook__", "__new__", "__getattribute__"}


def attempt(call: Any) -> Any:
    """What a call gives, or None: any exception is fine, a crash is not."""
    try:
        return call()
    except Exception:
        return None


def poke(thing: Any) -> None:
    """Touch everything that it has."""
    for name in dir(thing):
        if name in LEFT_ALONE:
            continue
        value = attempt(lambda name=name: getattr(thing, name))
        attempt(lambda name=name: setattr(thing, name, None))
        attempt(lambda name=name: setattr(thing, name, "polling"))
        if callable(value):
            for arguments in ARGUMENTS:
                attempt(lambda value=value, arguments=arguments: value(*arguments))
    for use in (memoryview, bytes, len, iter, next, repr, hash, copy.copy, copy.deepcopy, pickle.dumps, list, bool):
        attempt(lambda use=use: use(thing))
    attempt(lambda: thing == thing)
    attempt(lambda: memoryview(thing)[0:1].tobytes())


def make_and_use(kind: type) -> int:
    makers = [
        kind,
        lambda *a: kind.__new__(kind, *a),
        lambda *a: object.__new__(kind),
        lambda *a: kind.__new__(kind).__init__(*a),
        lambda *a: type("Sub", (kind,), {})(*a),
    ]
    for make in makers:
        for arguments in ARGUMENTS:
            thing = attempt(lambda make=make, arguments=arguments: make(*arguments))
            if isinstance(thing, kind):
                poke(thing)
            del thing
    gc.collect()
    return 0


TYPES = extension_types()


def test_all_types_are_found() -> None:
    names = {kind.__name__ for kind in TYPES}
    assert names >= {"Burst", "_Packets", "Lease", "Window", "Column", "Store", "Pool", "Numpy", "Stats", "Region"}
    assert names >= {"Ring", "RxRing", "TxRing", "Queue", "RxQueue", "TxQueue"}
    assert names >= {"Rows", "LayerColumns"}


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_made_by_hand(kind: type) -> None:
    assert in_child(lambda: make_and_use(kind)) == 0


def test_a_ring_or_a_queue_made_by_hand_stays_useless() -> None:
    """What __new__ alone made is not taken by those that could use it."""
    with pair() as (_, slave, master):
        for ring in (slave.rx_ring, slave.tx_ring):
            for kind in (memif.ring.RxQueue, memif.ring.TxQueue, memif.ring.Queue):
                with pytest.raises((memif.MemifStateError, TypeError)):
                    kind.__new__(kind).attach(ring)
        for hollow in (memif.ring.RxRing, memif.ring.TxRing, memif.ring.Ring):
            with pytest.raises((RuntimeError, TypeError)):
                master.rx.attach(hollow.__new__(hollow))
            with pytest.raises((RuntimeError, TypeError)):
                master.tx.attach(hollow.__new__(hollow))


def test_a_ring_is_set_up_once_even_from_inside() -> None:
    """What the arguments' own code does in the middle does not count."""
    with pair() as (_, slave, _master):
        ring = memif.ring.RxRing.__new__(memif.ring.RxRing)
        inner: list[Exception] = []

        class Regions:
            def __iter__(self) -> Any:
                try:
                    ring.__init__(slave.rx_ring.regions, 0, 0, 4, slave=False)  # type: ignore[misc]
                except RuntimeError as error:
                    inner.append(error)
                return iter(slave.rx_ring.regions)

        ring.__init__(Regions(), 0, 0, 4, slave=False)  # type: ignore[misc]
        assert len(inner) == 1
        assert ring.alive


def test_rows_of_packets_are_set_up_once() -> None:
    """A second set-up would lose the first buffer, and with it the matrix."""
    matrix = np.zeros((4, 64), np.uint8)
    layers = memif.packet.classify(matrix, np.full(4, 64, np.uint32))
    arrays = [matrix, layers.l3_offset]
    before = [sys.getrefcount(array) for array in arrays]
    for made, arguments in ((Rows(matrix), (matrix,)), (LayerColumns(layers, 4), (layers, 4))):
        for _ in range(3):
            attempt(lambda made=made, arguments=arguments: made.__init__(*arguments))
    del made, arguments
    assert [sys.getrefcount(array) for array in arrays] == before


def test_rows_are_of_two_dimensions() -> None:
    """Also where something says so and has a buffer of one."""

    class Liar(bytearray):
        strides, size = (1, 1), 1

    with pytest.raises(memif.MemifValueError, match="matrix: got"):
        Rows(Liar(8))
