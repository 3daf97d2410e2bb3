"""A passive tap on the link between two other programs.

Packets of a memif are in memory that only two processes share, so there is nothing to listen to from outside. But the
descriptors of that memory pass over the control socket. `Sniffer` listens where the slave connects. A small process of
its own (`memif.sniff.relay`) connects to the real master, passes every message on unchanged, and reports a duplicate of
each descriptor. The peers then talk over their own memory at full speed. Here the same memory is mapped read-only, and
the indices of the rings tell what passed.

Nothing is ever written to rings, event fds or the memory. When the process with the `Sniffer` ends or dies, the relay
goes on until the link between the two peers ends by itself.

What can be seen: a packet stays in its buffer until its slot is used again, so all packets are seen as long as the
rings do not turn faster than this process looks at them. The others are counted as missed. A slave that receives resets
the length of a packet as soon as it has read it; the length is then taken from the IP or ARP header.

What is certain: a packet is what was sent if it was copied before its receiver gave it back. After that the receiver
may have written over it, for it may turn a request into its answer in place, and a zero-copy sender may have used the
buffer again. Such packets are unsure: `Batch.unsure` and `RingCounters.unsure` say which and how many. VPP and DPDK as
receivers that copy leave packets alone, so theirs are certain (`Receiver`). What a receiver writes while it still holds
a packet, and has not sent it on, cannot be told from what was sent: `memif.bridge`, through which all packets pass,
records exactly. Needs numpy.
"""

from memif.extras import numpy as _numpy  # noqa: F401  # says which extra is missing
from memif.sniff.batch import Batch
from memif.sniff.receiver import Receiver
from memif.sniff.ringtap import RingCounters, RingTap
from memif.sniff.sniffer import Control, Ended, Link, Note, Sniffer, Started

__all__ = ["Batch", "Control", "Ended", "Link", "Note", "Receiver", "RingCounters", "RingTap", "Sniffer", "Started"]
