"""Makes docs/_static/terminal.svg: the tool at work, photographed in a terminal of tmux.

    python docs/picture.py

Needs tmux and memif[cli]. Starts a responder, pings it, then watches a link on which another program sends.
"""

import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent / "_static" / "terminal.svg"
COLUMNS, ROWS = 98, 34


class Terminal:
    """A tmux session of one window, with a plain shell."""

    def __init__(self) -> None:
        self._socket = f"memif-picture-{os.getpid()}"
        shell = (
            "env -i PATH=$PATH TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 PS1='$ ' bash --norc --noprofile"
        )
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), shell)
        time.sleep(0.5)

    def _tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._socket, *words], check=True, capture_output=True, text=True, timeout=10
        ).stdout

    def type(self, line: str, seconds: float) -> None:
        """Type a line and give it time."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")
        time.sleep(seconds)

    def screen(self) -> str:
        """What is on it, with the colours as escape sequences."""
        return self._tmux("capture-pane", "-p", "-e")

    def close(self) -> None:
        """End it and all in it."""
        self._tmux("kill-server")


def main() -> None:
    """Run the programs and write the picture."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)  # so that the sockets have short names in the picture
    programs = [
        subprocess.Popen(
            ["memif", "icmp-responder", "--role", "master", "--socket", "demo.sock"], stdout=subprocess.DEVNULL
        )
    ]
    terminal = Terminal()
    try:
        time.sleep(1)
        terminal.type("clear", 0.3)
        terminal.type("memif ping --socket demo.sock --count 4 --interval 0.3 192.168.1.2", 3)
        terminal.type("memif show --role master --socket link.sock", 1.5)
        words = ["memif", "send", "--socket", "link.sock", "--size", "imix", "--rate", "250k", "--duration", "20"]
        programs.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(12)
        text = terminal.screen().rstrip()
    finally:
        terminal.close()
        for program in programs:
            program.terminate()
            program.wait(10)
        shutil.rmtree(folder)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(text), soft_wrap=True)
    picture = console.export_svg(title="memif")
    # No fonts from elsewhere: a picture must not call home.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    picture = re.sub(r"<!--.*?-->", "", picture, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    TARGET.write_text(re.sub(r"\n\s*\n+", "\n", picture))
    print(TARGET, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
