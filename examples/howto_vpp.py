"""Both ends of a link with VPP in one call: VPP pings us, we answer.

``python howto_vpp.py [API-SOCKET]``
"""

import sys
import threading

from memif import Interface
from memif.packet import Responder
from memif.vpp import API_SOCKET, Vpp

responder = Responder("192.168.1.2")
done = threading.Event()


def answer(iface: Interface) -> None:
    while not done.is_set():
        with iface.rx[0].recv(256, timeout=0.1) as burst:
            heads = burst.gather(128)
            answered = responder.answer(heads, burst.lengths)
            burst.scatter(heads)
            iface.tx[0].forward(burst, select=answered)


# [link]
with Vpp(sys.argv[1] if len(sys.argv) > 1 else API_SOCKET) as vpp:
    with vpp.link(address="192.168.1.1/24") as iface:  # VPP's end and ours are up
        print("linked to", vpp.interfaces()[0].name)
        # [link ends]
        thread = threading.Thread(target=answer, args=(iface,))
        thread.start()
        print(vpp.cli("ping 192.168.1.2 repeat 3").splitlines()[-1])
        done.set()
        thread.join()
