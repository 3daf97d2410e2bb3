"""What the pages show of the tools at work, made by running them in a terminal of 80 columns.

    python docs/_ext/sessions.py [NAME]...

Each of `SESSIONS` becomes a file in docs/tools/output. The tests run them again and compare, numbers aside.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shell import SEARCH_PATH, Terminal

OUTPUT = Path(__file__).parents[1] / "tools" / "output"
#: Where the sessions take place; its name is on the pages.
FOLDER = Path("/tmp/memif-lab")
COLUMNS, ROWS = 80, 60
_RESPONDER = "memif icmp-responder --role master --socket demo.sock"
#: A master that lets packets wait, so that a tap sees all of them in time.
_SLOW = """
import memif, time
with memif.listen("demo.sock", name="sink") as sink:
    sink.wait_up()
    while sink.up:
        time.sleep(0.3)
        sink.rx[0].recv_list(64, timeout=0)
        sink.socket.poll(0)
"""


@dataclass(frozen=True)
class Session:
    """Commands typed one after the other.

    Attributes:
        lines: What is typed. "^C" at its end stands for Ctrl-C.
        background: Programs that run meanwhile.
        until: What has to be on the screen before Ctrl-C.
        ready: What has to be true before the first line, as the shell's `test` or another command says it.
        upto: What comes after a line with that depends on how busy the machine is; the tests do not compare it.
    """

    lines: Sequence[str]
    background: Sequence[str] = ()
    until: str = ""
    ready: str = "true"
    upto: str = ""


_LISTENING = "[ -S demo.sock ]"
_CONNECTED = "memif list demo.sock | grep client.*sink"


def _after(socket: str, command: str) -> str:
    """A program that is started once somebody listens."""
    return f"until [ -S {socket} ]; do sleep 0.1; done; exec memif {command}"


SESSIONS = {
    "list": Session(
        ["memif list /tmp/memif-lab"], [_RESPONDER, _after("demo.sock", "sink --socket demo.sock")], ready=_CONNECTED
    ),
    "ping": Session(["memif ping --socket demo.sock -c 4 -i 0.2 192.168.1.2"], [_RESPONDER], ready=_LISTENING),
    "ping-nobody": Session(["memif ping --socket demo.sock -c 2 192.168.1.77"], [_RESPONDER], ready=_LISTENING),
    "responder": Session(
        ["memif icmp-responder --role master --socket demo.sock ^C"],
        [_after("demo.sock", "ping --socket demo.sock -c 3 -i 0.2 192.168.1.2")],
        until="disconnected",
    ),
    "capture": Session(
        [
            "memif capture --role master --socket demo.sock -c 5",
            "memif capture --role master --socket demo.sock -c 2 arp",
        ],
        ["while true; do memif ping --socket demo.sock -c 9 -i 0.2 192.168.1.2; done"],
    ),
    "replay": Session(
        [
            "memif capture --role master --socket demo.sock -w lab.pcapng -c 100",
            "memif replay --socket demo2.sock --topspeed lab.pcapng",
        ],
        [
            _after("demo.sock", "send --socket demo.sock --rate 1k --duration 5"),
            "memif sink --role master --socket demo2.sock",
        ],
    ),
    "send": Session(
        ["memif send --socket demo.sock --rate 100k -t 3"],
        ["memif sink --role master --socket demo.sock"],
        ready=_LISTENING,
    ),
    "sink": Session(
        ["memif sink --role master --socket demo.sock -k 300000"],
        [_after("demo.sock", "send --socket demo.sock --rate 100k -t 9")],
    ),
    "doctor": Session(["memif doctor gone.sock", "memif doctor --join demo.sock"], [_RESPONDER], ready=_LISTENING),
    "show": Session(
        ["memif show --role master --socket demo.sock --once"],
        [_after("demo.sock", "send --socket demo.sock --rate 1k -t 20")],
    ),
    "sniff": Session(
        ["memif sniff tap.sock demo.sock ^C"],
        [
            f"python -c '{_SLOW}'",
            _after("tap.sock", "send --socket tap.sock --rate 2 --count 3"),
        ],
        until="link down",
        ready=_LISTENING,
        upto="link up",
    ),
    "bridge": Session(
        ["memif bridge memif:left.sock,role=master memif:right.sock,role=master ^C"],
        [
            _after("right.sock", "icmp-responder --socket right.sock"),
            "until memif list right.sock | grep client.*responder; do sleep 0.2; done; "
            "exec memif ping --socket left.sock -c 3 -i 0.2 192.168.1.2",
        ],
        until="disconnected",
    ),
}


def run(session: Session) -> str:
    """Play a session and return what the terminal shows at its end."""
    shutil.rmtree(FOLDER, ignore_errors=True)  # of a run that was killed
    FOLDER.mkdir()
    before = os.getcwd()
    os.chdir(FOLDER)  # sockets have short names there
    try:
        with ExitStack() as stack:
            for command in session.background:
                stack.callback(_end, _start(command))
            terminal = stack.enter_context(Terminal(COLUMNS, ROWS))
            _wait(session.ready)
            for line in session.lines:
                command, interrupted, _ = line.partition(" ^C")
                terminal.enter(command)
                if interrupted:
                    terminal.wait_for(session.until)
                    time.sleep(0.5)
                    terminal.interrupt()
                time.sleep(0.3)
                terminal.wait_for_prompt()
            return _clean(terminal.screen())
    finally:
        os.chdir(before)
        shutil.rmtree(FOLDER)


def _wait(ready: str) -> None:
    environment = os.environ | {"PATH": SEARCH_PATH}
    deadline = time.monotonic() + 45
    while subprocess.run(["sh", "-c", ready], env=environment, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(ready)
        time.sleep(0.2)


def _start(command: str) -> subprocess.Popen[bytes]:
    words = ["sh", "-c", command if ";" in command else f"exec {command}"]
    return subprocess.Popen(
        words,
        env=os.environ | {"PATH": SEARCH_PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program, and what its shell has started."""
    if process.poll() is None:
        os.killpg(process.pid, 15)
    process.wait(10)


def _clean(screen: str) -> str:
    lines = [line.rstrip() for line in screen.rstrip().removesuffix("$").rstrip().splitlines()]
    return "\n".join(lines) + "\n"


#: A number with its unit, a moment, a bar, and which of two events was noticed first.
_CHANGING = re.compile(r"[\d.,:%]+( ([nµm]?s|[kMG]?pps|[kMG]?bit/s|[kMG]?B)(?!\w))?|[█▏▎▍▌▋▊▉]+|by the (master|slave)$")


def shapes(text: str) -> list[str]:
    """The lines without what differs from one run to the next: numbers, and how many lines of a kind there are."""
    words = (" ".join(_CHANGING.sub("#", line).split()) for line in text.splitlines() if line.strip())
    return list(dict.fromkeys(re.sub(r"#( ?#)+", "#", line) for line in words))


def main() -> None:
    """Write the files."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or SESSIONS:
        text = run(SESSIONS[name])
        (OUTPUT / f"{name}.txt").write_text(text)
        print(f"-- {name}\n{text}", flush=True)


if __name__ == "__main__":
    main()
