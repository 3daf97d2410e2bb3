"""A learning switch: eight memifs on one socket and one event loop.

    python examples/aio_switch.py /tmp/switch.sock

Clients connect with the ids 0 to 7, whenever they like:

    memif ping --socket /tmp/switch.sock --id 3 ...

from one of them reaches `memif icmp-responder` with --id 4 on another. Ctrl-C ends it.
"""

import asyncio
import sys

import memif
from memif import aio

PORTS = 8


# [switch]
class Switch:
    """Learns the port of each MAC address."""

    def __init__(self) -> None:
        self.ports: list[aio.Interface] = []
        self.homes: dict[bytes, aio.Interface] = {}

    def add(self, sock: aio.Socket, number: int) -> None:
        """Open a port. Its task runs while a client is there."""
        name = f"port{number}"
        port = sock.interface(
            id=number, role="master", name=name, on_connect=self.serve
        )
        self.ports.append(port)

    async def serve(self, port: aio.Interface) -> None:
        """Switch all packets from one port."""
        who = port.peer.app_name if port.peer else "nobody"
        print(f"{port.name}: {who} is here", flush=True)
        async for burst in port.rx[0]:
            heads = burst.gather(12)
            for number, head in enumerate(heads):
                self.forward(burst, number, bytes(head[:6]), port)
                self.homes[bytes(head[6:])] = port
        print(f"{port.name}: {port.disconnect_reason}", flush=True)

    # [forward]
    def forward(
        self, burst: memif.Burst, number: int, target: bytes, source: aio.Interface
    ) -> None:
        """Send one packet to its destination, or to all other ports.

        A full ring drops it, as in a switch.
        """
        home = self.homes.get(target)
        for port in [home] if home is not None else self.ports:
            if port is not source and port.up:
                port.tx[0].forward(burst, start=number, stop=number + 1, copy=True)


# [main]
async def main(path: str) -> None:
    """Serve the socket until Ctrl-C."""
    async with aio.Socket(path, app_name="switch") as sock:
        switch = Switch()
        for number in range(PORTS):
            switch.add(sock, number)
        print("listening on", sock.address, flush=True)
        await asyncio.Event().wait()


# [run]
if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        pass
