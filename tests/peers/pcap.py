"""The classic pcap file format, as little of it as testpmd's net_pcap port needs.

Independent of ``memif.capture`` on purpose: a test that compares files must not read them with what it tests.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

_MAGIC = 0xA1B2C3D4  # microsecond timestamps, byte order of the writer
_FILE_HEADER = struct.Struct("=IHHiIII")
_RECORD_HEADER = struct.Struct("=IIII")
_LINKTYPE_ETHERNET = 1
_SNAPLEN = 65535


def write_pcap(path: Path, frames: Iterable[bytes]) -> None:
    """Write Ethernet `frames` to `path`, all with time stamp zero."""
    parts = [_FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, _SNAPLEN, _LINKTYPE_ETHERNET)]
    for frame in frames:
        parts += (_RECORD_HEADER.pack(0, 0, len(frame), len(frame)), frame)
    path.write_bytes(b"".join(parts))


def read_pcap(path: Path) -> list[bytes]:
    """Return the frames of `path`, whatever the resolution of its time stamps."""
    data = path.read_bytes()
    frames = []
    offset = _FILE_HEADER.size
    while offset < len(data):
        captured = _RECORD_HEADER.unpack_from(data, offset)[2]
        offset += _RECORD_HEADER.size
        frames.append(data[offset : offset + captured])
        offset += captured
    return frames
