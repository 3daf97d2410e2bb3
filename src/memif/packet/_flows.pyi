import numpy as np
from numpy.typing import NDArray

from memif.packet.classify import Layers

def hashes(matrix: NDArray[np.uint8], layers: Layers, table: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    """Return the hash of the flow of each packet.

    Args:
        matrix: uint8, shape (n, width).
        layers: Those of the matrix.
        table: For Toeplitz, the value of each byte at each place of the input, uint32, shape (36 * 256,). None for the
            symmetric hash.

    Returns:
        uint32, shape (n,); 0 for packets that are not valid IP.
    """
