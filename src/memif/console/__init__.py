"""The interactive example of libmemif, `memif console`: create interfaces, examine them, answer and send pings.

A program of the C library's kind, written with `memif.libmemif` only. Other examples are made from its parts:

- `icmp`: ARP and ICMP echo, one frame at a time
- `connection`: an interface with its address, counters and buffers
- `answer`: receive, answer, transmit
- `sender`: a thread that sends echo requests as fast as the ring takes them
- `show`: what `show` and `sh-count` print
- `commands`: `Console`, the ten commands
- `loop`: the epoll loop around it
- `terminal`: line editing, history and completion

Messages, labels and their order are those of the C program, since scripts and test cases read them.
"""

from memif.console.commands import Console
from memif.console.connection import Connection
from memif.console.terminal import run

__all__ = ["Connection", "Console", "run"]
