"""The control messages of memif 2.0 as tables, from the classes that encode and decode them."""

import re
import struct

from memif.protocol import wire
from text import first_paragraph, table

_KINDS = {"H": "u16", "B": "u8", "I": "u32", "Q": "u64"}
_SENDERS = {
    "HELLO": ("master", "-"),
    "INIT": ("slave", "-"),
    "ADD_REGION": ("slave", "memory"),
    "ADD_RING": ("slave", "eventfd"),
    "CONNECT": ("slave", "-"),
    "CONNECTED": ("master", "-"),
    "DISCONNECT": ("either", "-"),
    "ACK": ("master", "-"),
}
_MEANING = {
    "name": "name of the program",
    "if_name": "name of the interface",
    "id": "which interface is meant",
    "min_version": "lowest version spoken",
    "max_version": "highest version spoken",
    "version": "version chosen",
    "max_region": "highest region index",
    "max_m2s_ring": "highest index of a master-to-slave ring",
    "max_s2m_ring": "highest index of a slave-to-master ring",
    "max_log2_ring_size": "largest log2 of the slots of a ring",
    "mode": "0 ethernet, 1 ip, 2 punt/inject",
    "secret": "compared by a master that has one",
    "index": "number of the region, or of the ring in its direction",
    "size": "bytes",
    "s2m": "flags; bit 0 set: slave to master",
    "region": "region that the ring stands in",
    "offset": "where the ring's header is in that region",
    "log2_ring_size": "log2 of the slots",
    "private_hdr_size": "always 0",
    "code": "not comparable between implementations",
    "reason": "text for people",
}


def _fields(kind: type[wire.Message]) -> list[tuple[str, str, int, str]]:
    """Rows: name, type, offset, meaning."""
    rows = [("type", "u16", 0, f"{int(kind.TYPE)}")]
    codes = re.findall(r"\d*[A-Za-z]", kind.LAYOUT.struct.format)[1:]
    for (name, offset), code in zip(kind.LAYOUT.offsets.items(), codes, strict=True):
        kind_of_field = _KINDS.get(code, f"char[{struct.calcsize(code)}]")
        rows.append((f"`{name}`", kind_of_field, offset, _MEANING[name]))
    return rows


def _kinds() -> list[type[wire.Message]]:
    return [wire._CLASSES[number] for number in sorted(wire._CLASSES)]


def overview() -> str:
    """One row a message."""
    rows = [
        (int(k.TYPE), f"[{k.TYPE.name}](#{k.TYPE.name.lower()})", *_SENDERS[k.TYPE.name], first_paragraph(k.__doc__))
        for k in _kinds()
    ]
    return table(("type", "message", "sent by", "descriptor", "meaning"), rows)


def tables() -> str:
    """One section a message."""
    parts = []
    for kind in _kinds():
        parts.append(f"## {kind.TYPE.name}\n\n{first_paragraph(kind.__doc__)}\n")
        parts.append(table(("field", "type", "offset", "meaning"), _fields(kind)))
    return "\n".join(parts)
