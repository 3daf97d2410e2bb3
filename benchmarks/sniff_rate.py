"""How much `memif sniff` slows down a link: the rate between two testpmds, alternately watched and not.

Run as root from the source tree: ``python benchmarks/sniff_rate.py [packet size] [seconds a phase] [phases]``. Both
testpmds run all the time on a CPU each and the link goes through the tap all the time; only the recorder is stopped and
continued (SIGSTOP, SIGCONT), so that nothing else changes between the phases.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from testpmd import rate

from peers.testpmd import Testpmd, poll_until


def measure(folder: str, size: int, seconds: float, phases: int, load: str) -> None:
    """Print the medians of both kinds of phases, and how many packets the tap recorded."""
    path, tap = f"{folder}/m.sock", f"{folder}/t.sock"
    words = [
        sys.executable,
        "-m",
        "memif",
        "sniff",
        "--load",
        load,
        "-w",
        f"{folder}/s.pcapng",
        "--rotate-size",
        "50M",
        "--files",
        "2",
        "--json",
        tap,
        path,
    ]
    cpus = sorted(os.sched_getaffinity(0))
    with Testpmd(path, "server", forward="rxonly", cpu=cpus[0], flush_rx=True) as server:
        recorder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        poll_until(lambda: os.path.exists(tap), 20)
        with Testpmd(tap, "client", forward="txonly", cpu=cpus[-1], txpkts=size) as client:
            server.wait_link()
            server.start()
            client.start()
            time.sleep(0.5)
            rates: dict[str, list[float]] = {"watched": [], "alone": []}
            for _ in range(phases):
                rates["watched"].append(rate(server, seconds))
                recorder.send_signal(signal.SIGSTOP)
                rates["alone"].append(rate(server, seconds))
                recorder.send_signal(signal.SIGCONT)
            client.stop()
            server.stop()
            recorder.send_signal(signal.SIGINT)
            ring = json.loads(recorder.communicate(timeout=30)[0])["links"][0]["rings"][0]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = [w / a for w, a in zip(rates["watched"], rates["alone"], strict=True)]
    print(
        f"{size:5d} B  alone {medians['alone'] / 1e6:6.2f} Mpps  watched {medians['watched'] / 1e6:6.2f} Mpps  "
        f"ratio {statistics.median(ratios):.3f} (median of {phases} pairs)  "
        f"recorded {ring['seen'] / (phases * seconds):,.0f} packets/s with --load {load}"
    )


def main() -> None:
    """Read the arguments and measure."""
    size, seconds, phases = (*sys.argv[1:], *("64", "1", "15")[len(sys.argv) - 1 :])[:3]
    for load in ("3", "5", "10"):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            measure(folder, int(size), float(seconds), int(phases), load)


if __name__ == "__main__":
    main()
