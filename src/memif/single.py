"""Base of the objects that there can be only one of."""

from typing import Never


class Single:
    """What owns descriptors, memory or a link: a copy would close them under the original's feet, so there is none."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> Never:
        """Asked by `copy` and `pickle`. Raises TypeError."""
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}: it owns what there is only once")
