"""Makes docs/_static/terminal.svg: the tool at work, photographed in a terminal of tmux.

    python docs/_ext/picture.py

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

from shell import Terminal

TARGET = Path(__file__).parents[1] / "_static" / "terminal.svg"
COLUMNS, ROWS = 98, 34


def main() -> None:
    """Run the programs and write the picture."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)  # so that the sockets have short names in the picture
    programs = [
        subprocess.Popen(
            ["memif", "icmp-responder", "--role", "master", "--socket", "demo.sock"], stdout=subprocess.DEVNULL
        )
    ]
    terminal = Terminal(COLUMNS, ROWS)
    try:
        time.sleep(1)
        terminal.clear()
        terminal.enter("memif ping --socket demo.sock -c 4 -i 0.3 192.168.1.2")
        terminal.wait_for_prompt()
        terminal.enter("memif show --role master --socket link.sock")
        time.sleep(1.5)
        words = ["memif", "send", "--socket", "link.sock", "--size", "imix", "--rate", "250k", "--duration", "20"]
        programs.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(12)
        text = terminal.screen(colours=True).rstrip()
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
