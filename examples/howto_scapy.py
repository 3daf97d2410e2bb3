"""Scapy on a memif: ask for an address, send pings, sniff.

    python examples/howto_scapy.py

A responder in a second process stands for the peer. Needs scapy: pip install
'memif[scapy,cli]'.
"""

# [peer]
import subprocess
import sys

command = "memif icmp-responder --role master --socket @scapy --ip 192.168.1.2"
words = [sys.executable, "-m", *command.split(), "--duration", "30"]
peer = subprocess.Popen(words, stdout=subprocess.DEVNULL)

# [socket]
from scapy.layers.inet import ICMP, IP  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402

from memif.scapy import MemifSocket  # noqa: E402

with MemifSocket("@scapy", id=0, timeout=10.0) as socket:
    # [ask]
    question = ARP(psrc="192.168.1.1", pdst="192.168.1.2")
    request = Ether(dst="ff:ff:ff:ff:ff:ff") / question
    answer = socket.sr1(request, timeout=2, verbose=False)
    assert answer is not None, "nobody answers"
    print(f"{answer.psrc} is at {answer.hwsrc}")
    # [pings]
    to_peer = Ether(dst=answer.hwsrc) / IP(src="192.168.1.1", dst="192.168.1.2")
    pings = [to_peer / ICMP(seq=number) for number in range(3)]
    answered, unanswered = socket.sr(pings, timeout=2, verbose=False)
    for sent, received in answered:
        kind = received[ICMP].sprintf("%ICMP.type%")
        print(f"request {sent[ICMP].seq}: {kind} from {received[IP].src}")
    # [sniff]
    socket.send(pings[0])
    for packet in socket.sniff(count=1, timeout=2):
        print(packet.summary())
# [end]
peer.terminate()
peer.wait(10)
