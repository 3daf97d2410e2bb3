"""What the package logs, with the interface's name in each record.

python examples/howto_logging.py
"""

# [configure]
import logging
import sys

import memif

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(
    logging.Formatter("%(levelname)s %(name)s [%(interface)s] %(message)s")
)
logging.getLogger("memif").addHandler(handler)
logging.getLogger("memif").setLevel(logging.INFO)

# [demo]
with (
    memif.listen("@logging", id=0, name="inside", secret=b"right") as server,
    memif.Socket("@logging") as socket,
):
    client = socket.interface(id=0, name="outside", secret=b"wrong", reconnect=None)
    client.connect()
    while client.disconnect_reason is None:
        server.socket.poll(0.01)
        socket.poll(0.01)
    client.close()
    client = socket.interface(id=0, name="outside", secret=b"right")
    while not (server.up and client.up):
        server.socket.poll(0.01)
        socket.poll(0.01)
    client.disconnect("maintenance")
    while server.up:
        server.socket.poll(0.01)
