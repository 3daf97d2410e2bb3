"""A responder and a ping talk over memif, in two processes, for a few seconds.
This is what ``make demo`` runs.

No VPP, no DPDK, no root: the two share memory and a socket with an abstract name.
"""

import os
import signal
import subprocess
import sys

SOCKET = f"@memif-demo-{os.getpid()}"
MEMIF = [sys.executable, "-m", "memif"]


def main() -> int:
    """Run both programs; the exit code is ping's."""
    responder_command = f"icmp-responder --role master --socket {SOCKET}".split()
    responder_command += ["--ip", "192.168.1.2"]
    ping_command = [
        "ping",
        "--role",
        "slave",
        "--socket",
        SOCKET,
        "--ip",
        "192.168.1.1",
        "--count",
        "5",
        "--interval",
        "0.3",
        "192.168.1.2",
    ]
    print("$ memif", " ".join(responder_command), "&", flush=True)
    responder = subprocess.Popen([*MEMIF, *responder_command, "--duration", "30"])
    try:
        print("$ memif", " ".join(ping_command), flush=True)
        words = [*MEMIF, *ping_command]
        code = subprocess.run(words, timeout=20, check=False).returncode
    finally:
        responder.send_signal(signal.SIGINT)
        responder.wait(10)
    print(
        "\nTwo processes exchanged these packets through shared memory: "
        "one as master, one as slave."
        if code == 0
        else "\nNo reply came: that should not happen.",
        flush=True,
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
