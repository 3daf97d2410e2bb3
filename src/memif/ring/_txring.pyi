from typing import final

from memif.ring._ring import Ring

@final
class TxRing(Ring): ...
