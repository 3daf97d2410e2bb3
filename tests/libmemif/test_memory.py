"""Memory from the user's callbacks: the allocator of memif_init, the external regions of 4.0."""

import contextlib
import gc
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

import memif
from libmemif.rig import End, buffers, initialised, poll_until
from memif import libmemif as c

FORMS = pytest.mark.parametrize("form", ["descriptor", "pair", "object"])


def memfd(size: int) -> int:
    fd = os.memfd_create("user's memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


class Allocator:
    """memif_alloc_t and memif_free_t that keep a record."""

    def __init__(self, form: str = "descriptor") -> None:
        self.form = form
        self.given: list[Any] = []
        self.sizes: list[int] = []

    def alloc(self, size: int) -> Any:
        self.sizes.append(size)
        fd = memfd(size)
        memory: Any = fd
        if self.form == "pair":
            memory = fd, mmap.mmap(fd, size)
        if self.form == "object":
            memory = os.fdopen(fd, "r+b", buffering=0)
        self.given.append(memory)
        return memory

    def free(self, memory: Any) -> None:
        self.given.remove(memory)
        if self.form == "pair":
            memory[1].close()
            os.close(memory[0])
        elif self.form == "object":
            memory.close()
        else:
            os.close(memory)


@contextlib.contextmanager
def linked(path: str) -> Iterator[tuple[End, End]]:
    """Context: (master, slave). The master has a socket of its own, which no callbacks for memory are registered on."""
    err, sock = c.memif_create_socket(c.memif_socket_args_t(path=path))
    assert err == c.MEMIF_ERR_SUCCESS
    master, slaves = End(None, socket=sock, is_master=1), [End(path)]
    poll_until(lambda: (c.memif_poll_event(sock, 0), master.up and slaves[0].up)[1])
    try:
        yield master, slaves.pop()  # nothing here keeps it alive
    finally:
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_SUCCESS
        assert c.memif_delete_socket(sock) == c.MEMIF_ERR_SUCCESS


def mapped_here(name: str) -> int:
    with open("/proc/self/maps") as maps:
        return sum(name in line for line in maps)


@FORMS
def test_regions_come_from_the_allocator_and_go_back(socket_path: str, form: str) -> None:
    memory = Allocator(form)
    with initialised(None, "app", memory.alloc, memory.free):
        with linked(socket_path) as (master, slave):
            assert len(memory.sizes) == 1
            assert memory.sizes[0] >= 2 * 1024 * 2048
            assert mapped_here("user's memory") == 2
            slave.send(b"over it")
            assert master.receive(2) == [b"over it"]
            assert c.memif_get_details(slave.conn)[1].regions[0].is_external == 0
            view = buffers(1)
            assert c.memif_buffer_alloc(slave.conn, 0, view, 1) == (c.MEMIF_ERR_SUCCESS, 1)
            c.memif_delete(slave.conn)
            poll_until(lambda: not master.up, sock=c.memif_get_socket_handle(master.conn))
            gc.collect()
            assert len(memory.given) == 1  # a buffer still looks at it
            view[0].data[:1] = b"x"
            del view[0], slave
            gc.collect()
            assert memory.given == []
    assert mapped_here("user's memory") == 0


def test_a_descriptor_without_free_is_closed(socket_path: str) -> None:
    with initialised(None, "app", lambda size: memfd(size)):
        with linked(socket_path):
            pass


def test_the_allocator_of_a_4_0_socket(socket_path: str) -> None:
    memory = Allocator()
    args = c.memif_socket_args_t(path=socket_path, alloc=memory.alloc, free=memory.free)
    err, sock = c.memif_create_socket(args)
    assert err == c.MEMIF_ERR_SUCCESS
    master, slave = End(None, socket=sock, is_master=1), End(None, socket=sock)
    poll_until(lambda: master.up and slave.up, sock=sock)
    assert len(memory.given) == 1
    c.memif_delete(slave.conn)
    c.memif_delete(master.conn)
    assert c.memif_delete_socket(sock) == c.MEMIF_ERR_SUCCESS
    gc.collect()
    assert memory.given == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda size: None, "has no"),
        (lambda size: 1 // 0, "ZeroDivisionError"),
        (lambda size: "x", "descriptor"),
        (lambda size: memfd(4096), "has 4096 bytes"),
        (lambda size: (memfd(size), b"read-only"), ""),
    ],
)
def test_an_allocator_that_fails_keeps_the_link_down(socket_path: str, answer: Any, why: str) -> None:
    with initialised(
        None,
        "app",
        answer,
        lambda memory: os.close(memory[0] if type(memory) is tuple else memory) if memory != "x" else None,
    ):
        End(socket_path, is_master=1)
        slave = End(socket_path)
        poll_until(lambda: c.memif_get_details(slave.conn)[1].error)
        assert why in c.memif_get_details(slave.conn)[1].error
        assert "up" not in slave.events


# -- external regions


class External:
    """The four callbacks, over one memfd; buffers are handed out from the end of the region."""

    def __init__(self, *, addr: bool = True, size: int = 2048) -> None:
        self.log: list[Any] = []
        self.addr = addr
        self.fd = -1
        self.memory: mmap.mmap | None = None
        self.next = 0
        self.size = size

    def add(self, size: int, ctx: Any) -> tuple[int, Any, int]:
        self.log.append(("add", ctx))
        self.fd, self.next = memfd(size), size
        if self.addr:
            self.memory = mmap.mmap(self.fd, size)
        return 0, self.memory, self.fd

    def get_addr(self, size: int, fd: int, ctx: Any) -> Any:
        self.log.append(("get", ctx))
        assert fd == self.fd
        self.memory = mmap.mmap(fd, size)
        return self.memory

    def remove(self, addr: Any, size: int, fd: int, ctx: Any) -> int:
        self.log.append(("del", ctx))
        assert addr is self.memory
        assert fd == self.fd
        if self.memory is not None:
            self.memory.close()
        os.close(fd)
        return 0

    def offset(self, ctx: Any) -> int:
        self.next -= self.size
        return self.next


@pytest.mark.parametrize("addr", [True, False])
@pytest.mark.parametrize("offsets", [True, False])
def test_buffers_lie_in_the_external_region(socket_path: str, addr: bool, offsets: bool) -> None:
    external = External(addr=addr)
    with initialised():
        c.memif_register_external_region(
            external.add, external.get_addr, external.remove, external.offset if offsets else None
        )
        with linked(socket_path) as (master, slave):
            assert [event for event, _ in external.log] == (["add"] if addr else ["add", "get"])
            assert {ctx for _, ctx in external.log} == {slave}
            regions = c.memif_get_details(slave.conn)[1].regions
            assert [region.is_external for region in regions] == [0, 1]
            assert [region.is_external for region in c.memif_get_details(master.conn)[1].regions] == [0, 0]
            slave.send(b"in the user's memory")
            assert external.memory is not None
            at = external.memory.find(b"in the user's memory")
            assert at == (len(external.memory) - 2048 if offsets else 0)
            assert master.receive(2) == [b"in the user's memory"]
            master.send(b"and back")
            assert slave.receive(2) == [b"and back"]
            del regions
            c.memif_delete(slave.conn)
            del slave
            gc.collect()
            assert external.log[-1][0] == "del"


def test_del_comes_when_the_last_view_is_gone(socket_path: str) -> None:
    external = External()
    with initialised():
        c.memif_register_external_region(external.add, None, external.remove, None)
        with linked(socket_path) as (_, slave):
            bufs = buffers(1)
            c.memif_buffer_alloc(slave.conn, 0, bufs, 1)
            view = bufs[0].data
            c.memif_delete(slave.conn)
            del bufs, slave
            gc.collect()
            view[:2] = b"ok"
            assert external.log[-1][0] == "add"
            del view
            gc.collect()
            assert external.log[-1][0] == "del"


def test_zero_copy_over_an_external_region(socket_path: str) -> None:
    external = External()
    with initialised():
        c.memif_register_external_region(external.add, external.get_addr, external.remove, external.offset)
        with linked(socket_path) as (master, slave):
            for _ in range(50):
                master.send(b"there", b"again")
                bufs = buffers(2)
                assert c.memif_rx_burst(slave.conn, 0, bufs, 2) == (0, 2)
                assert c.memif_buffer_enq_tx(slave.conn, 0, bufs, 2) == (0, 2)
                assert c.memif_tx_burst(slave.conn, 0, bufs, 2) == (0, 2)
                assert c.memif_refill_queue(slave.conn, 0, 2) == 0
                assert master.receive(4) == [b"there", b"again"]


def test_the_region_of_one_socket(socket_path: str) -> None:
    external = External()
    err, sock = c.memif_create_socket(c.memif_socket_args_t(path=socket_path))
    assert err == c.MEMIF_ERR_SUCCESS
    c.memif_register_external_region(sock, external.add, None, external.remove, None)
    master, slave = End(None, socket=sock, is_master=1), End(None, socket=sock)
    poll_until(lambda: master.up and slave.up, sock=sock)
    assert external.log == [("add", slave)]
    c.memif_delete(slave.conn)
    c.memif_delete(master.conn)
    c.memif_delete_socket(sock)


def test_the_region_of_a_data_base() -> None:
    external = External()
    err, main = c.memif_per_thread_init(None, None, "app")
    assert err == c.MEMIF_ERR_SUCCESS
    c.memif_per_thread_register_external_region(main, external.add, None, external.remove)
    err, sock = c.memif_per_thread_create_socket(main, f"@{os.getpid()}")
    master, slave = End(None, socket=sock, is_master=1), End(None, socket=sock)
    poll_until(lambda: master.up and slave.up, sock=sock)
    assert external.log == [("add", slave)]
    assert c.memif_per_thread_cleanup(main) == c.MEMIF_ERR_SUCCESS


def test_registering_nothing_ends_it(socket_path: str) -> None:
    external = External()
    with initialised():
        c.memif_register_external_region(external.add, None, None, None)
        c.memif_register_external_region("no callback", None, None, None)
        c.memif_register_external_region(None, None, None, None)
        with linked(socket_path):
            assert external.log == []


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"add": lambda size, ctx: (-1, None, -1)}, "returned -1"),
        ({"add": lambda size, ctx: None}, "(err, addr, fd)"),
        ({"add": lambda size, ctx: 1 // 0}, "ZeroDivisionError"),
        ({"add": lambda size, ctx: (0, None, -1)}, "descriptor"),
        ({"add": lambda size, ctx: (0, None, "x")}, "descriptor"),
        ({"offset": lambda ctx: -1}, "offset"),
        ({"offset": lambda ctx: 1 << 31}, "place"),
        ({"offset": lambda ctx: "x"}, "offset"),
        ({"get_addr": lambda size, fd, ctx: 1 // 0}, "ZeroDivisionError"),
        ({"get_addr": lambda size, fd, ctx: bytearray(5)}, ""),
    ],
)
def test_callbacks_that_fail_keep_the_link_down(socket_path: str, broken: dict[str, Any], why: str) -> None:
    external = External(addr=False)
    with initialised():
        c.memif_register_external_region(
            broken.get("add", external.add),
            broken.get("get_addr", external.get_addr),
            lambda *args: external.fd >= 0 and os.close(external.fd),
            broken.get("offset"),
        )
        End(socket_path, is_master=1)
        slave = End(socket_path)
        poll_until(lambda: c.memif_get_details(slave.conn)[1].error)
        assert why in c.memif_get_details(slave.conn)[1].error
        assert "up" not in slave.events
        c.memif_delete(slave.conn)


# -- a master's side of them


class Mapper:
    """`get_addr` and `del` of a master, with a record."""

    def __init__(self, answer: Any = None) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.memory: list[mmap.mmap] = []
        self.answer = answer

    def add(self, size: int, ctx: Any) -> tuple[int, Any, int]:
        raise AssertionError("a master makes no memory")

    def get_addr(self, size: int, fd: int, ctx: Any) -> Any:
        self.log.append(("get", size, os.fstat(fd).st_size, ctx))
        if self.answer is not None:
            return self.answer(size, fd)
        self.memory.append(mmap.mmap(fd, size))
        return self.memory[-1]

    def remove(self, addr: Any, size: int, fd: int, ctx: Any) -> int:
        assert addr is self.memory[-1]
        assert os.fstat(fd).st_size >= size
        addr.close()
        self.log.append(("del", size, ctx))
        return 0


@contextlib.contextmanager
def mapping_master(path: str, mapper: Mapper) -> Iterator[tuple[End, c.memif_socket_handle_t]]:
    """Context: a master whose socket has the mapper's callbacks, and the socket."""
    err, sock = c.memif_create_socket(c.memif_socket_args_t(path=path))
    assert err == c.MEMIF_ERR_SUCCESS
    assert sock is not None
    c.memif_register_external_region(sock, mapper.add, mapper.get_addr, mapper.remove, None)
    master = End(None, socket=sock, is_master=1)
    try:
        yield master, sock
    finally:
        assert c.memif_delete(master.conn) == c.MEMIF_ERR_SUCCESS
        assert c.memif_delete_socket(sock) == c.MEMIF_ERR_SUCCESS


def test_a_master_s_callback_maps_all_regions_but_the_first(socket_path: str) -> None:
    mapper = Mapper()
    with mapping_master(socket_path, mapper) as (master, sock), memif.Socket(socket_path) as plain:
        slave = plain.interface(layout="split", ring_size=8)
        poll_until(lambda: (plain.poll(0), master.up and slave.up)[1], sock=sock)
        (what, size, actual, ctx), *others = mapper.log
        buffers_of_slave = slave.details().regions[1].size
        assert (what, size, ctx, others) == ("get", buffers_of_slave, master, [])
        assert size >= 16 * 2048
        assert actual >= size
        assert [region.is_external for region in c.memif_get_details(master.conn)[1].regions] == [0, 1]
        slave.tx[0].send([b"into the master's own mapping"])
        assert b"own mapping" in mapper.memory[0][:]
        bufs = buffers(1)
        assert c.memif_rx_burst(master.conn, 0, bufs, 1) == (0, 1)
        view = bufs[0].data
        slave.close()
        poll_until(lambda: not master.up, sock=sock)
        gc.collect()
        assert len(mapper.log) == 1  # a view is left
        assert bytes(view) == b"into the master's own mapping"
        del view, bufs
        gc.collect()
        assert mapper.log[1:] == [("del", buffers_of_slave, master)]


def test_a_master_s_callback_may_leave_it_to_the_library(socket_path: str) -> None:
    mapper = Mapper(lambda size, fd: None)
    with mapping_master(socket_path, mapper) as (master, sock), memif.Socket(socket_path) as plain:
        slave = plain.interface(layout="split", ring_size=8)
        poll_until(lambda: (plain.poll(0), master.up and slave.up)[1], sock=sock)
        assert [event[0] for event in mapper.log] == ["get"]
        assert [region.is_external for region in c.memif_get_details(master.conn)[1].regions] == [0, 0]
        slave.tx[0].send([b"x"])
        assert master.receive(2) == [b"x"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda size, fd: 1 // 0,
        lambda size, fd: 5,
        lambda size, fd: bytearray(size - 1),
        lambda size, fd: bytes(size),
        lambda size, fd: memoryview(bytearray(2 * size))[::2],
    ],
)
def test_a_master_s_callback_that_fails_refuses_the_slave(socket_path: str, answer: Any) -> None:
    with mapping_master(socket_path, Mapper(answer)) as (master, sock), memif.Socket(socket_path) as plain:
        slave = plain.interface(layout="split", ring_size=8)
        poll_until(lambda: (plain.poll(0), slave.disconnect_reason)[1], sock=sock)
        assert "addr" in slave.disconnect_reason
        assert "up" not in master.events
