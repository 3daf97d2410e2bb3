from typing import final

from typing_extensions import Buffer

__pyx_capi__: dict[str, object]

@final
class Region(Buffer):
    """One region of memif memory, mapped shared.

    Exports its bytes through the buffer protocol: ``memoryview(region)``. The mapping stays in place until the last
    view of it is gone, whatever happens to the connection.

    Args:
        fd: Descriptor of the memory. It is not kept: close it when you like.
        size: Bytes to map, from offset 0 on; 1 to 2**46.
        writable: False maps the memory read-only.

    Attributes:
        size: Bytes of the region.
        writable: Whether it can be written to.

    Raises:
        OSError: The mapping failed, or a regular file is shorter than `size`, its last page taken as a whole.
        ValueError: `size` is outside its range.
    """

    def __init__(self, fd: int, size: int, writable: bool = True) -> None: ...
    @staticmethod
    def wrap(buffer: object) -> Region:
        """Make a region of memory that somebody else has mapped.

        Args:
            buffer: A writable, contiguous object with the buffer protocol, of at least one byte. The region keeps it
                alive.

        Returns:
            The region, over all bytes of `buffer`.

        Raises:
            BufferError: `buffer` is read-only or not contiguous.
            ValueError: `buffer` is empty.
        """
    @property
    def size(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    def __len__(self) -> int: ...
