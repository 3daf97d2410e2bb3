"""What is known of a receiver by its name: whether a packet is still what was sent once it has been received."""

import enum


class Receiver(enum.Enum):
    """What the receiver of a ring does to packets in shared memory."""

    #: It copies them out and leaves them alone.
    COPIES = enum.auto()
    #: It may write there, and gives a packet back when it is done with it. Only until then is a packet what was sent.
    MAY_WRITE = enum.auto()
    #: It passes the buffers on without a copy and gives slots back much later, with other buffers: nothing is certain.
    KEEPS = enum.auto()


def receiver_of(app: str, *, slave: bool, regions: int) -> Receiver:
    """Judge a receiver.

    VPP and DPDK always copy as master. As slave they do where their buffers lie in the region of the rings; further
    regions are their own pools of buffers, which they use in place. All other programs may be written to do anything.

    Args:
        app: The name of its program, from HELLO or INIT.
        slave: Whether it is the slave.
        regions: How many regions the slave has offered.
    """
    if not app.startswith(("VPP ", "DPDK ")):
        return Receiver.MAY_WRITE
    return Receiver.KEEPS if slave and regions > 1 else Receiver.COPIES
