"""The interactive example of libmemif, `memif console`: create interfaces, examine them, answer and send pings.

A program of the C library's kind, written with `memif.libmemif` only. Other examples are made from its parts:

- `connection`: an interface with its address, counters and buffers
- `exchange`: receive, answer, transmit; a thread that sends echo requests as fast as the ring takes them
- `show`: what `show` and `sh-count` print
- `commands`: `Console`, the ten commands
- `loop`: the epoll loop around it; line editing, history and completion

Messages, labels and their order are those of the C program, since scripts and test cases read them.
"""

from memif.console.commands import Console
from memif.console.connection import MemifConnection
from memif.console.loop import run

__all__ = ["Console", "MemifConnection", "run"]
