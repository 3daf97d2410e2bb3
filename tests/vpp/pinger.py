"""In VPP's place for the guide: two masters and a slave that ping 192.168.1.2 until their input ends.

    python -m vpp.pinger SOCKET

Masters with the ids 0 and 1 on SOCKET, a zero-copy slave with two queues on SOCKET.2: memifs of `vpp.standin`. VPP's
own ping uses queue 0 only; what comes on the others is from hosts behind VPP, through another thread of VPP. Prints the
answers to each, by queue.
"""

import contextlib
import ipaddress
import json
import select
import sys
from pathlib import Path

import memif
from vpp.standin import Face, StandIn

TARGET, MAC = bytes((192, 168, 1, 2)), bytes.fromhex("02fe00000002")


def create(vpp: StandIn, socket_id: int, id: int, *, slave: bool, queues: int = 1) -> Face:
    """A memif that is up. Its address is that of the others: VPP would allow only one of them at a time."""
    options = {"ring_size": 1024, "buffer_size": 2048, "rx_queues": queues, "tx_queues": queues, "secret": b""}
    face = vpp.create(socket_id, id, slave=slave, mode=0, zero_copy=True, mac=bytes(6), **options)
    face.addresses.append(ipaddress.ip_interface("192.168.1.1/24"))
    vpp.set_state(face, up=True)
    return face


def main(path: str) -> None:
    """Ping until the input ends."""
    vpp = StandIn(str(Path(path).parent), retry=0.1)
    vpp.sockets = {0: path, 1: path + ".2"}
    faces = {
        "master 0": create(vpp, 0, 0, slave=False),
        "master 1": create(vpp, 0, 1, slave=False),
        "slave 0": create(vpp, 1, 0, slave=True, queues=2),
    }
    print("ready", flush=True)
    sequence = 0
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        sequence += 1
        vpp.turn()
        for face in faces.values():
            for queue in range(face.queues()) if face.up else ():
                with contextlib.suppress(memif.MemifError):  # the link has gone
                    vpp.ping(face, TARGET, 0, sequence, MAC, queue)
    print(json.dumps({name: face.answers for name, face in faces.items()}))
    vpp.close()


if __name__ == "__main__":
    main(sys.argv[1])
