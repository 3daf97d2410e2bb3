"""icmp_responder-mt_3-1 of 19.08 to 21.10: every thread has a database, a socket and interfaces of its own.

    python examples/libmemif/icmp_responder_mt_3_1.py [-t THREADS] [-i INTERFACES] [--socket PREFIX]

-t, --threads   how many threads (4)
-i, --if_num    slaves on each thread (1), with the ids 0, 1, ...
--socket        where the sockets are (/run/vpp/memif): thread 0 connects to PREFIX0.sock, thread 1 to PREFIX1.sock, ...

Interface i of thread t answers ARP and ping for 192.168.(t + 1).(2 i + 2), in place, in the thread that polls for it.
Commands: help, show, exit. VPP's side, for each thread, with the socket numbers 1, 2, ...:

    create memif socket id 1 filename /run/vpp/memif0.sock
    create interface memif id 0 socket-id 1 master
    set interface state memif1/0 up
    set interface ip address memif1/0 192.168.1.1/24
"""

import argparse
import os
import select
import sys
import threading

from common import check, respond_in_place, say

from memif.console.connection import ALL, MemifConnection
from memif.console.loop import control_events, watch
from memif.libmemif import (
    MEMIF_ERR_SUCCESS,
    memif_conn_args_t,
    memif_conn_handle_t,
    memif_delete_socket,
    memif_get_socket_filename,
    memif_per_thread_cleanup,
    memif_per_thread_control_fd_handler,
    memif_per_thread_create_socket,
    memif_per_thread_init,
    memif_refill_queue,
    memif_socket_handle_t,
    memif_strerror,
)

HELP = "exit - Exits the application.\nhelp - Print this help.\nshow - Show memif interfaces"


class ThreadInterface(MemifConnection):
    """An interface that says nothing when its link comes and goes; `show` tells."""

    def on_connect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """The link is up."""
        self.conn, self.queues, self.up = conn, (1, 1), True
        return memif_refill_queue(conn, 0, ALL, 0)

    def on_disconnect(self, conn: memif_conn_handle_t, ctx: object) -> int:
        """The link has gone."""
        self.up = False
        self.new_buffers()
        return 0


class ResponderThread(threading.Thread):
    """One data base with its loop. Nothing of it is shared with other threads."""

    def __init__(self, index: int, interfaces: int, prefix: str) -> None:
        super().__init__(name=f"thread {index}")
        self.index = index
        self.path = f"{prefix}{index}.sock"
        self.sock: memif_socket_handle_t | None = None
        self.interfaces = [ThreadInterface(i, bytes((192, 168, index + 1, i * 2 + 2))) for i in range(interfaces)]
        self._epoll = select.epoll()
        self._cancel = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._cancel, select.EPOLLIN)

    def stop(self) -> None:
        """End the thread, and wait for that."""
        os.eventfd_write(self._cancel, 1)
        self.join()
        self._epoll.close()
        os.close(self._cancel)

    def control_fd_update(self, fd: int, events: int, ctx: object) -> int:
        """The library has opened or will close a descriptor of this thread's."""
        return watch(self._epoll, fd, events)

    def run(self) -> None:
        """The thread: set up, poll until cancelled, delete everything."""
        err, main = memif_per_thread_init(self, self.control_fd_update, "ICMP_Responder_mt", None, None, None)
        if main is None:
            say(f"memif_per_thread_init: {memif_strerror(err)}")
            return
        err, self.sock = memif_per_thread_create_socket(main, self.path, self)
        if self.sock is None:
            say(f"memif_per_thread_create_socket: {memif_strerror(err)}")
            return
        for c in self.interfaces:
            args = memif_conn_args_t(socket=self.sock, interface_id=c.index)
            err = c.create(args, respond_in_place)
            if err != MEMIF_ERR_SUCCESS:
                say(memif_strerror(err))
        while self._poll(main):
            pass
        for c in self.interfaces:
            if c.conn:
                c.delete()
        check("memif_delete_socket", memif_delete_socket(self.sock))
        check("memif_per_thread_cleanup", memif_per_thread_cleanup(main))

    def _poll(self, main: object) -> bool:
        """Wait for events and pass them on. -> False when the thread shall end."""
        for fd, what in self._epoll.poll():
            if fd == self._cancel:
                return False
            # No lock: the database belongs to this thread.
            memif_per_thread_control_fd_handler(main, fd, control_events(what))  # type: ignore[arg-type]
        return True


def show(threads: list[ResponderThread]) -> None:
    """What `show` prints."""
    say(f"{len(threads)} Threads {len(threads[0].interfaces)} Memifs (per thread)\n{'=' * 33}")
    for thread in threads:
        say(f"Thread {thread.index} {memif_get_socket_filename(thread.sock) if thread.sock else None}")
        for c in thread.interfaces:
            say(f"\tMemif id {c.index}\n\t{'Link up' if c.up else 'Link down'}")


def ask() -> str:
    """A line that was typed; "" at the end of the input."""
    sys.stdout.write("cmd: ")
    sys.stdout.flush()
    return sys.stdin.readline()


def main() -> int:
    """Start the threads and read commands. -> exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-t", "--threads", type=int, default=4)
    parser.add_argument("-i", "--if_num", type=int, default=1)
    parser.add_argument("-s", "--socket", default="/run/vpp/memif")
    options = parser.parse_args()
    # They have to fit into the third and fourth byte of the addresses.
    for name, most in (("threads", 254), ("if_num", 126)):
        if not 1 <= getattr(options, name) <= most:
            say(f"{name} < 1" if getattr(options, name) < 1 else f"{name} > {most}")
            return 1
    threads = [ResponderThread(i, options.if_num, options.socket) for i in range(options.threads)]
    for thread in threads:
        thread.start()
    say(HELP)
    try:
        while command := ask():
            if command.startswith("exit"):
                break
            if command.startswith("help"):
                say(HELP)
            elif command.startswith("show"):
                show(threads)
    except KeyboardInterrupt:
        pass
    for thread in threads:
        thread.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
