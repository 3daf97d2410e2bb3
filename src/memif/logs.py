"""The loggers of this package, by the names below ``memif``. Every record has the interface's name.

==================  ===============================================================================================
memif.interface     links that come up and end, with the reason (INFO, WARNING when this side did not ask for it);
                    failed attempts to connect (INFO, once for each reason); peers that break the rings' rules (WARNING)
memif.control       a handshake failed for a reason on this side, such as no memory (ERROR); each control message that
                    is sent and received, by its name (DEBUG)
memif.memory        memory of a peer that is not sealed (WARNING); huge pages that are not available (WARNING)
memif.socket        clients refused before the interface was theirs (WARNING, one a second; more at DEBUG); no
                    descriptor left to accept clients with (ERROR)
memif.libmemif      callbacks of the C library's API that raise (ERROR)
==================  ===============================================================================================

`LogRecord.interface` is the interface's name, "" where there is none, so this works for all of them::

    line = "%(asctime)s %(levelname)s %(name)s [%(interface)s] %(message)s"
    logging.basicConfig(format=line)

That format is for the loggers of memif; give it to a handler of the logger ``memif`` if other packages log, too. The
package adds no handlers and sets no levels.
"""

import logging
import time
from typing import TypedDict


class Extra(TypedDict):
    """Argument ``extra`` of a logging call."""

    interface: str


def of(interface: str) -> Extra:
    """Return the argument ``extra`` of a record about this interface."""
    return {"interface": interface}


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name`; its records without an interface get the interface name ""."""
    logger = logging.getLogger(name)
    if _complete not in logger.filters:
        logger.addFilter(_complete)
    return logger


def _complete(record: logging.LogRecord) -> bool:
    if not hasattr(record, "interface"):
        record.interface = ""
    return True


class Seldom:
    """The level to log one of many like events at: a warning once a second, so that a crowd does not fill the disk."""

    def __init__(self) -> None:
        self._warned = -1e9

    def level(self) -> int:
        """`logging.WARNING`, or `logging.DEBUG` within a second of the last warning."""
        now = time.monotonic()
        if now - self._warned < 1.0:
            return logging.DEBUG
        self._warned = now
        return logging.WARNING
