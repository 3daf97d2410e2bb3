"""An API socket whose answers are damaged: an error, in time, and nothing else."""

import contextlib
import random
import struct
import time
from pathlib import Path

import pytest

import memif
from memif.vpp import Vpp, VppError
from patience import within
from vpp.server import ApiServer
from vpp.standin import StandIn


def mangler(seed: int, whole: int) -> "type[bytes] | object":
    """Damages replies, but not the first `whole` ones: bits, lengths, numbers, ends."""
    source = random.Random(seed)
    count = 0

    def mangle(reply: bytes) -> bytes:
        nonlocal count
        count += 1
        if count <= whole:
            return reply
        kind, data = source.randrange(6), bytearray(reply)
        if kind == 0:
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        elif kind == 1:
            del data[source.randrange(len(data)) :]
        elif kind == 2:
            struct.pack_into(">I", data, 8, source.choice([0, 1, 5, 9, 13, 1 << 20, 1 << 31, 0xFFFFFFFF]))
        elif kind == 3:
            struct.pack_into(">I", data, 8, cut := source.randrange(6, len(data) - 15))
            del data[16 + cut :]
        elif kind == 4:
            data[16 + source.randrange(min(30, len(data) - 16)) :] = source.randbytes(40)
        return bytes(data)

    return mangle


@pytest.mark.parametrize("whole", [0, 1, 2, 4])
def test_damaged_answers(whole: int, socket_path: str) -> None:
    folder = str(Path(socket_path).parent)
    outcomes = {True: 0, False: 0}
    for seed in range(25):
        with ApiServer(f"{folder}/api.sock", StandIn(folder)) as server:
            server.mangle = mangler(seed, whole)  # type: ignore[assignment]
            begun = time.monotonic()
            try:
                with Vpp(f"{folder}/api.sock", timeout=0.1) as vpp:
                    for call in (vpp.interfaces, vpp.sockets, vpp.show_version):
                        with contextlib.suppress(memif.MemifError):
                            call()
                    with contextlib.suppress(memif.MemifError):
                        vpp.create(f"{folder}/x.sock", address="192.168.1.1/24")
                outcomes[True] += 1
            except memif.MemifError:
                outcomes[False] += 1
            assert time.monotonic() - begun < within(6)
    assert outcomes[False] > 0 or whole


def test_dump_without_end(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(socket_path).parent)
    monkeypatch.setattr("memif.vpp.wire._MOST_DETAILS", 100)
    with ApiServer(f"{folder}/api.sock", StandIn(folder)) as server, Vpp(f"{folder}/api.sock") as vpp:
        vpp.create()
        server.mangle = lambda reply: reply * (200 if len(reply) > 100 else 1)
        with pytest.raises(VppError, match="answers without end"):
            vpp.interfaces()
        with pytest.raises(memif.MemifClosedError):
            vpp.interfaces()


@pytest.mark.parametrize("timeout", [0, -1, "1", None])
def test_timeout(timeout: object) -> None:
    with pytest.raises(memif.MemifValueError, match="argument timeout"):
        Vpp("/nowhere", timeout=timeout)  # type: ignore[arg-type]
