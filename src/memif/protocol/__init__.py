"""The memif 2.0 control protocol without any I/O: messages, and the handshake of both roles.

`wire` encodes and decodes messages. `SlaveHandshake` and `MasterHandshake` turn what arrives into actions for their
owner, who has the sockets.
"""

from memif.protocol.actions import (
    Action,
    Cause,
    Close,
    CloseFd,
    CreateMemory,
    MapMemory,
    Negotiated,
    RegionOffer,
    RingOffer,
    Selected,
    Send,
    Up,
)
from memif.protocol.handshake import Handshake, Role, State
from memif.protocol.master import InterfaceInfo, Lookup, MasterConfig, MasterHandshake
from memif.protocol.refusals import Refusal
from memif.protocol.slave import SlaveConfig, SlaveHandshake
from memif.protocol.wire import MESSAGE_SIZE, VERSION, Message, MessageType, Mode, decode, encode

__all__ = [
    "MESSAGE_SIZE",
    "VERSION",
    "Action",
    "Cause",
    "Close",
    "CloseFd",
    "CreateMemory",
    "Handshake",
    "InterfaceInfo",
    "Lookup",
    "MapMemory",
    "MasterConfig",
    "MasterHandshake",
    "Message",
    "MessageType",
    "Mode",
    "Negotiated",
    "Refusal",
    "RegionOffer",
    "RingOffer",
    "Role",
    "Selected",
    "Send",
    "SlaveConfig",
    "SlaveHandshake",
    "State",
    "Up",
    "decode",
    "encode",
]
