"""Write what a link carries to a pcapng file, and read it back.

python examples/howto_capture.py FILE
"""

import sys

import memif
from memif.capture import CaptureReader, PcapngWriter, summary

frame = bytes.fromhex(
    "ffffffffffff02fe000000010806000108000604000102fe00000001c0a80101000000000000c0a80102"
)

# [write]
with (
    memif.listen("@capture", id=0) as server,
    memif.Socket("@capture") as socket,
    PcapngWriter(sys.argv[1]) as file,
):
    client = socket.interface(id=0)
    while not (server.up and client.up):
        server.socket.poll(0.01)
        socket.poll(0.01)
    link = file.add_interface("memif0", description="server's side of @capture")

    client.tx[0].send([frame] * 3)
    with server.rx[0].recv(256, timeout=1.0) as burst:
        # One system call for the burst.
        file.write_packets(burst, interface=link, direction="in")
        sent = server.tx[0].forward(burst)
        file.write_packets(burst.tobytes()[:sent], interface=link, direction="out")

# [read]
with CaptureReader(sys.argv[1]) as packets:
    for packet in packets:
        text = summary(packet.data, packet.linktype)
        print(packet.direction, packet.original_length, text)
