from typing import final

from memif.ring._ring import Ring

@final
class TxRing(Ring):
    """Packets to the peer: S2M on a slave, M2S on a master.

    Takes the arguments of `Ring`.
    """
