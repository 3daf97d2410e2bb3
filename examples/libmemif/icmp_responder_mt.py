"""icmp_responder-mt of 18.07: slaves with two queues and a thread for each: even queues use polling, odd queues wait.

    python examples/libmemif/icmp_responder_mt.py [--socket PATH]

Commands: help, exit, conn <index>, del <index>, show, ip-set <index> <ip-addr>. Connections are set up by the main
thread; the threads only receive and send. VPP's side:

    create interface memif id 0 master
    set interface state memif0/0 up
    set interface ip address memif0/0 192.168.1.1/24
"""

import os
import select
import sys
import threading
from collections.abc import Iterable
from typing import ClassVar

from console import main

from memif.console import Console, MemifConnection
from memif.console.commands import Handler
from memif.console.connection import info
from memif.console.exchange import respond
from memif.libmemif import (
    MEMIF_ERR_SUCCESS,
    MEMIF_RX_MODE_INTERRUPT,
    MEMIF_RX_MODE_POLLING,
    memif_conn_handle_t,
    memif_get_queue_efd,
    memif_set_rx_mode,
    memif_strerror,
)

QUEUES = 2


class QueueThread(threading.Thread):
    """Serves one queue of a connection until told to stop.

    Buffers and counters are its own, so that threads share nothing but the connection.
    """

    def __init__(self, owner: MemifConnection, qid: int) -> None:
        self.number = owner.index * QUEUES + qid
        super().__init__(name=f"queue {self.number}", daemon=True)
        self.owner, self.qid, self.polling = owner, qid, qid % 2 == 0
        self.mine = MemifConnection(owner.index, owner.ip, owner.mac)
        self.mine.conn, self.mine.queues = owner.conn, owner.queues
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ended = False

    def run(self) -> None:
        """The thread."""
        info(f"pthread id {self.number} starts in {'polling' if self.polling else 'interrupt'} mode")
        try:
            self._poll() if self.polling else self._wait()
        finally:
            info(f"pthread id {self.number} exit")

    def stop(self) -> None:
        """End it, and wait for that."""
        self._ended = True
        os.eventfd_write(self._bell, 1)
        self.join()
        os.close(self._bell)

    def _serve(self) -> None:
        self.mine.ip = self.owner.ip
        respond(self.mine, self.qid)

    def _poll(self) -> None:
        while not self._ended:
            before = self.mine.rx
            self._serve()
            if self.mine.rx == before:
                # Polling must not keep the interpreter lock from the other threads.
                select.select([], [], [], 20e-6)

    def _wait(self) -> None:
        err, fd = memif_get_queue_efd(self.mine.conn, self.qid)  # type: ignore[arg-type]
        if err != MEMIF_ERR_SUCCESS:
            info(f"memif_get_queue_efd: {memif_strerror(err)}")
            return
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLIN)
            epoll.register(self._bell, select.EPOLLIN)
            while not self._ended:
                # The peer has no full barrier before it checks whether to signal, so a wake-up can be lost.
                epoll.poll(0.1)
                if not self._ended:
                    self._serve()


class ThreadedConnection(MemifConnection):
    """An interface whose queues have threads."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.threads: list[QueueThread] = []

    def connected_text(self) -> str:
        """Says which one."""
        return f"memif connected! index {self.index}"

    def on_connect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """Set the queues' modes and start their threads."""
        super().on_connect(conn, ctx)
        for qid in range(self.queues[0]):
            thread = QueueThread(self, qid)
            mode = MEMIF_RX_MODE_POLLING if thread.polling else MEMIF_RX_MODE_INTERRUPT
            err = memif_set_rx_mode(conn, mode, qid)
            if err != MEMIF_ERR_SUCCESS:
                info(f"memif_set_rx_mode: {memif_strerror(err)} qid: {qid}")
            self.threads.append(thread)
            thread.start()
        return 0

    def on_disconnect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """End the threads."""
        super().on_disconnect(conn, ctx)
        threads, self.threads = self.threads, []
        for thread in threads:
            thread.stop()
        return 0

    def queue_lines(self, qid: int) -> Iterable[str]:
        """The thread of a receive queue."""
        if qid >= len(self.threads):
            return ()
        thread = self.threads[qid]
        return (
            f"thread id: {thread.number}",
            f"thread connection index: {self.index}",
            f"thread running: {'yes' if thread.is_alive() else 'no'}",
        )


class ThreadedConsole(Console):
    """Six commands; interfaces are slaves."""

    log2_ring_size = 10
    rings = QUEUES
    handlers: ClassVar[dict[str, Handler | None]] = {"": None}
    commands = (
        ("help", "", "list the commands"),
        ("exit", "", "delete all interfaces and leave"),
        ("conn", "<index>", "create a slave with this index and id"),
        ("del", " <index>", "delete an interface"),
        ("show", "", "show the details of all interfaces"),
        ("ip-set", "<index> <ip-addr>", "set the IP address of an interface"),
    )

    def connection(self, index: int) -> MemifConnection:
        """With threads."""
        return ThreadedConnection(index)

    def do_conn(self, arguments: list[str]) -> None:
        """``conn <index>``: without on_interrupt, since the threads look after the queues."""
        super().do_conn([*arguments[:1], "0", ""])


if __name__ == "__main__":
    sys.exit(main(ThreadedConsole, __doc__))
