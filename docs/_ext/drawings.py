"""Drawings of the shared memory. Sizes and offsets come from `memif.memory.layout`, so they are those of the code."""

from memif.memory.layout import HEAD_OFFSET, plan_layout
from memif.protocol.offers import DESCRIPTOR_SIZE, ring_header_size

_ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker></defs>'
)


def _svg(height: int, title: str, *parts: str) -> str:
    return (
        f'<svg class="drawing" role="img" aria-label="{title}" viewBox="0 0 760 {height}">{_ARROW}'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str = "", *lines: str, mono: bool = True) -> str:
    middle = y + height / 2 + 4 - 8 * (len(lines) - 1)
    style = "mono" if mono else ""
    return f'<rect class="box {kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="3"/>' + "".join(
        _text(x + width / 2, middle + 16 * row, line, style, "middle") for row, line in enumerate(lines)
    )


def _line(path: str, more: str = "") -> str:
    return f'<path class="line {more}" marker-end="url(#tip)" d="{path}"/>'


def _legend(y: float) -> str:
    return (
        _box(20, y, 16, 14, "slave")
        + _text(42, y + 12, "written by the slave", "small")
        + _box(190, y, 16, 14, "master")
        + _text(212, y + 12, "written by the master", "small")
    )


def region() -> str:
    """Region 0 as our slave makes it by default, with one ring each way."""
    layout = plan_layout(1, 1, 10, 2048)
    size, rings = layout.region_sizes[0], layout.rings
    marks = [0, rings[1].offset, layout.slot_offset(0, 0), layout.slot_offset(1, 0), size]
    xs = [20, 150, 280, 500, 720]
    names = [
        ("S2M ring 0", "1024 slots"),
        ("M2S ring 0", "1024 slots"),
        ("buffers of S2M ring 0", "1024 x 2048 bytes"),
        ("buffers of M2S ring 0", "1024 x 2048 bytes"),
    ]
    boxes = "".join(_box(a, 96, b - a, 56, "", *n, mono=False) for a, b, n in zip(xs, xs[1:], names, strict=False))
    offsets = "".join(
        _text(x, 90, f"{mark:,}".replace(",", " "), "small", "middle") for x, mark in zip(xs, marks, strict=True)
    )
    return _svg(
        270,
        "One region: rings, then buffers",
        _box(20, 14, 330, 40, "slave", "slave process: creates it, maps it", mono=False),
        _box(390, 14, 330, 40, "master", "master process: maps the same descriptor", mono=False),
        _line("M185,54 V74"),
        _line("M555,54 V74"),
        boxes,
        offsets,
        _text(20, 236, "A descriptor in a ring gives the region, offset and length of a buffer.", "small"),
        _line("M85,152 C85,195 380,195 390,156", "dash"),
        _line("M215,152 C215,222 600,222 610,156", "dash"),
        _text(
            20,
            256,
            f"One memfd of {size:,} bytes in all".replace(",", " ")
            + ", passed with ADD_REGION; and one eventfd for each ring, passed with ADD_RING.",
            "small",
        ),
    )


def ring() -> str:
    """One ring: two cache lines of header, then descriptors."""
    header = ring_header_size(64)
    return _svg(
        236,
        "A ring in memory",
        _text(20, 24, "byte 0", "small"),
        _text(392, 24, f"byte {header // 2}", "small"),
        _box(20, 32, 110, 44, "slave", "cookie", "u32"),
        _box(130, 32, 110, 44, "", "flags", "u16"),
        _box(240, 32, 110, 44, "slave", "head", f"u16 at {HEAD_OFFSET}"),
        _box(350, 32, 36, 44, "", "..."),
        _box(392, 32, 110, 44, "master", "tail", "u16"),
        _box(502, 32, 218, 44, "", "not used"),
        _text(20, 100, f"byte {header}: descriptors, {DESCRIPTOR_SIZE} bytes each", "small"),
        "".join(_box(20 + 100 * i, 108, 100, 44, "", f"slot {n}") for i, n in enumerate("0123")),
        _box(420, 108, 80, 44, "", "..."),
        _box(500, 108, 120, 44, "", "slot size-1"),
        _text(20, 178, "The receiver of this ring writes flags: bit 0 (MASK_INT) means send no interrupts.", "small"),
        _text(20, 196, "head and tail count up and wrap at 65536; slot = index AND (size - 1).", "small"),
        _legend(210),
    )


def descriptor() -> str:
    """One descriptor."""
    fields = [
        ("flags", "u16", 2),
        ("region", "u16", 2),
        ("length", "u32", 4),
        ("offset", "u32", 4),
        ("metadata", "u32", 4),
    ]
    parts, at = [], 0
    for name, kind, size in fields:
        x = 20 + at * 43.75
        parts += [_box(x, 32, size * 43.75, 44, "", name, kind), _text(x, 26, str(at), "small")]
        at += size
    if at != DESCRIPTOR_SIZE:
        raise AssertionError("the fields of a descriptor changed")
    return _svg(
        132,
        "A descriptor",
        *parts,
        _text(
            20,
            100,
            "flags bit 0 (NEXT): the packet continues in the next slot. length: bytes of the packet; in an",
            "small",
        ),
        _text(20, 117, "M2S ring before the master has filled it, the size of the buffer.", "small"),
    )


def _slots(y: float, kinds: str, marks: dict[int, str]) -> str:
    classes = {"f": "", "p": "slave", "b": "master"}
    boxes = "".join(_box(40 + 56 * i, y, 56, 34, classes[kind]) for i, kind in enumerate(kinds))
    arrows = "".join(
        _line(f"M{40 + 56 * i},{y - 22} V{y - 3}") + _text(40 + 56 * i, y - 27, name, "mono", "middle")
        for i, name in marks.items()
    )
    return boxes + arrows


def ownership() -> str:
    """Who owns which slots in the two kinds of ring."""
    s2m = "fffpppppffff"
    m2s = "bbbbppppppff"
    return _svg(
        330,
        "Who owns which slot",
        _text(20, 22, "S2M ring: the slave sends", "head"),
        _slots(76, s2m, {3: "tail (master)", 8: "head (slave)"}),
        _text(208, 130, "packets for the master to read", "small"),
        _text(496, 130, "free, for the slave to fill", "small"),
        _text(40, 130, "read, free again", "small"),
        _text(20, 182, "M2S ring: the master sends into buffers that the slave has put there", "head"),
        _slots(236, m2s, {4: "tail (master)", 10: "head (slave)"}),
        _text(40, 290, "packets for the slave to read", "small"),
        _text(264, 290, "empty buffers for the master to fill", "small"),
        _text(600, 290, "not offered yet", "small"),
        _text(
            20,
            316,
            "In both rings only the slave moves head and only the master moves tail.",
            "small",
        ),
    )


DRAWINGS = {"region": region, "ring": ring, "descriptor": descriptor, "ownership": ownership}
