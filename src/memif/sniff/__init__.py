"""A passive tap on the link between two other programs.

memif has no broadcast that one could listen to: a packet is in memory that two processes share, and nobody else. But
the descriptors of that memory go over the control socket, and whoever stands between the two when they connect sees
them pass. `Sniffer` listens where the slave connects, has a small process of its own (`memif.sniff.relay`) connect to
the real master and hand every message over as it is, and keeps a duplicate of each descriptor. The peers then talk over
their own memory at full speed; here the same memory is mapped read-only, and the indices of the rings tell what passed.

Nothing is ever written to rings, event fds or the memory. When the process with the `Sniffer` ends or dies, the relay
goes on until the link between the two ends by itself.

What can be seen: a packet stays in its buffer until its slot comes round again, so all are seen as long as the rings do
not turn faster than this process looks at them; the rest is counted as missed. A receiver that is slave resets the
length of a packet as soon as it has read it. Where that has happened, the length is taken from the IP or ARP header.
With peers that move buffers around (zero-copy), a packet may have been overwritten before it was copied; such packets
are counted as unsure. Needs numpy.
"""

from memif.sniff.batch import Batch
from memif.sniff.ringtap import RingCounters, RingTap
from memif.sniff.sniffer import Control, Ended, Link, Note, Sniffer, Started

__all__ = ["Batch", "Control", "Ended", "Link", "Note", "RingCounters", "RingTap", "Sniffer", "Started"]
