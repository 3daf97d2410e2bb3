"""Debug mode: find views of packets that live longer than their burst.

A view of a received packet stays readable after its burst was released, but the memory belongs to the peer again and
soon holds another packet. Such a mistake shows only under load. In debug mode `Burst.release`, `Burst.send` and leaving
a burst's ``with`` block raise `MemifStateError` while views of its packets are alive.

Turned on by the environment variable ``MEMIF_DEBUG=1``, or by `enable`. Numpy arrays made of a view count as the view;
the arrays of `Burst.memory` do not. A loop's variable keeps the last view alive: ``del`` it. Costs about a microsecond
for each packet looked at.
"""

import os

from memif.ring._burst import set_debug

_enabled = False


def enable(on: bool = True) -> None:
    """Turn debug mode on or off for all bursts that are received or allocated from now on, in this process."""
    global _enabled
    _enabled = on
    set_debug(on)


def enabled() -> bool:
    """Whether debug mode is on."""
    return _enabled


if os.environ.get("MEMIF_DEBUG", "0") not in ("", "0"):  # `import memif` loads this module then
    enable()
