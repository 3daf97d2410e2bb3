from typing import Any

import numpy as np
from numpy.typing import NDArray

from memif.packet.classify import Layers

_Values = NDArray[np.uint8] | None
_Mask = NDArray[np.bool_] | None

def macs(matrix: NDArray[np.uint8], layers: Layers, src: _Values, dst: _Values, mask: _Mask) -> NDArray[np.bool_]:
    """Write MAC addresses, given as (1 or n, 6), where there is a valid Ethernet frame. -> where it was done."""

def addresses(
    matrix: NDArray[np.uint8], layers: Layers, src: _Values, dst: _Values, mask: _Mask, version: int
) -> NDArray[np.bool_]:
    """Write IP addresses of one version, given as (1 or n, 4 or 16). -> where it was done."""

def ports(matrix: NDArray[np.uint8], layers: Layers, src: _Values, dst: _Values, mask: _Mask) -> NDArray[np.bool_]:
    """Write the ports of TCP and UDP, given as (1 or n, 2). -> where it was done."""

def hops(matrix: NDArray[np.uint8], layers: Layers, mask: _Mask) -> NDArray[np.bool_]:
    """Take one from time to live or hop limit where it is above 1. -> where it was done."""

def vlan(matrix: NDArray[np.uint8], lengths: NDArray[Any], tags: _Values, mask: _Mask) -> NDArray[np.uint32]:
    """Push tags, given as (1 or n, 4), or, without, pop the outer tag. -> the lengths after that."""
