from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.packet.classify import Layers

def compute_ipv4(matrix: NDArray[np.uint8], layers: Layers) -> NDArray[np.uint16]:
    """Return the header checksum that each IPv4 packet should have, 0 for other rows."""

def verify_ipv4(matrix: NDArray[np.uint8], layers: Layers) -> NDArray[np.bool_]:
    """Return where the header checksum of valid IPv4 is right."""

def fill_ipv4(matrix: NDArray[np.uint8], layers: Layers) -> None:
    """Write the header checksums."""

def compute_l4(matrix: NDArray[np.uint8], layers: Layers) -> NDArray[np.uint16]:
    """Return the layer 4 checksum that each packet should have, 0 where it cannot be computed."""

def verify_l4(matrix: NDArray[np.uint8], layers: Layers) -> NDArray[np.bool_]:
    """Return where the layer 4 checksum is right."""

def fill_l4(matrix: NDArray[np.uint8], layers: Layers) -> None:
    """Write the layer 4 checksums."""

def computable_l4(matrix: NDArray[np.uint8], layers: Layers) -> NDArray[np.bool_]:
    """Return where a layer 4 checksum can be computed."""

def sums(matrix: NDArray[np.uint8], start: int | NDArray[Any], stop: int | NDArray[Any]) -> NDArray[np.uint64]:
    """Add the 16-bit words of bytes ``start`` to ``stop`` of each row, as the machine reads them.

    Args:
        matrix: uint8, shape (n, width).
        start: Offset in bytes: one for all rows, or an array of shape (n,).
        stop: Likewise, the first byte after the range.

    Returns:
        Sums to fold, uint64, shape (n,). 0 for a range that is empty or leaves its row.
    """
