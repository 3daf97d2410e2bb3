"""Packets there and back through an echo program of any other implementation, where MEMIF_ECHO names one.

Its words are split as a shell does; ``{socket}`` and ``{role}`` stand for the control socket and the program's role.
Programs around libmemif and gomemif were tried with it.
"""

import os
import random
import shlex
import subprocess
import time

import pytest

import memif
from ends import receive
from patience import within

COMMAND = os.environ.get("MEMIF_ECHO", "")
pytestmark = pytest.mark.skipif(not COMMAND, reason="MEMIF_ECHO names no echo program of another implementation")


@pytest.mark.parametrize("role", ["master", "slave"])
def test_packets_come_back(socket_path: str, role: str) -> None:
    """Of all sizes that one buffer holds, in order, more than the ring has slots."""
    theirs = "slave" if role == "master" else "master"
    command = [word.format(socket=socket_path, role=theirs) for word in shlex.split(COMMAND)]
    listening = memif.listen(socket_path) if role == "master" else None
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        if listening is None:
            deadline = time.monotonic() + within(5.0)
            while not os.path.exists(socket_path):
                assert program.poll() is None and time.monotonic() < deadline, f"{command} does not listen"  # noqa: PT018
                time.sleep(0.01)
        with listening or memif.connect(socket_path) as iface:
            iface.wait_up(within(5.0))
            pick = random.Random(1)
            for _ in range(100):
                out = [pick.randbytes(pick.randrange(60, 2049)) for _ in range(64)]
                assert iface.tx[0].send(out) == len(out)
                assert receive(iface.rx[0], len(out)) == out
            assert iface.rx[0].stats["bad_descriptors"] == 0
    finally:
        program.terminate()
        program.wait(10)
