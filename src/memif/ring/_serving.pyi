from typing import Any

from memif.ring._rxqueue import RxQueue

def serve(queue: RxQueue, handler: Any, tx: Any, data: Any, count: Any, timeout: Any, until: Any) -> int:
    """See `RxQueue.serve`."""
