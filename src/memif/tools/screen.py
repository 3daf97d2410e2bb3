"""Lines for people on standard error, beside whatever is drawn in place: messages, warnings of the library, progress.

All go through `say`, so that a line never lands in the middle of a live display, and never has what a terminal would
obey.
"""

import codecs
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

_ENCODING: Final = "memif_ascii"
#: What stands for the characters of the tools where the output cannot show them.
_TABLE: Final = str.maketrans(
    {
        "µ": "u",
        "–": "-",
        "±": "+-",
        "→": "->",
        "…": "...",
        **dict(zip("▁▂▃▄▅▆▇█▏", "_.,:-=+#|", strict=True)),
    }
)
_displays: list["Console"] = []


def say(text: str) -> None:
    """Print a line on standard error; above the live display, if there is one on this terminal."""
    line = escaped(text)
    with suppress(OSError):  # whoever reads it may have gone, which is no reason to fail
        if _displays and sys.stderr.isatty():
            _displays[-1].print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def escaped(text: str) -> str:
    r"""Return `text` with what is not printable as \x1b or \u202e, so that no peer or file can move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


@contextmanager
def live(console: "Console") -> Iterator[None]:
    """Context in which something is drawn in place on this console."""
    _displays.append(console)
    try:
        yield
    finally:
        _displays.remove(console)


class LogLines(logging.Handler):
    """Says warnings of the library, one line each; not what is the same as the one before."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        text = record.getMessage()
        if text != self._last:  # a client that tries again every few seconds
            self._last = text
            say(f"memif: {text}")


def log_to_stderr() -> None:
    """Let warnings of the library appear as lines of the tool."""
    log = logging.getLogger("memif")
    if not log.handlers:
        log.addHandler(LogLines())
        log.propagate = False


class _Ascii(codecs.IncrementalEncoder):
    """Encodes any text as ASCII, that of the tools so that it can still be read."""

    def encode(self, text: str, final: bool = False) -> bytes:
        return text.translate(_TABLE).encode("ascii", "backslashreplace")


def _find_ascii(name: str) -> codecs.CodecInfo | None:
    if name != _ENCODING:
        return None
    # A name of its own, as click takes "ascii" for a mistake and writes UTF-8.
    return codecs.CodecInfo(
        name=_ENCODING,
        encode=lambda text, errors="strict": (_Ascii().encode(text), len(text)),
        decode=codecs.ascii_decode,
        incrementalencoder=_Ascii,
    )


def fall_back_to_ascii() -> None:
    """Write ASCII to terminals and files that do not take UTF-8.

    ``LC_ALL=C`` asks for that, too, which Python would answer with UTF-8.
    """
    codecs.register(_find_ascii)
    asked = os.environ.get("LC_ALL") in ("C", "POSIX") and not {"PYTHONUTF8", "PYTHONIOENCODING"} & os.environ.keys()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and (asked or not stream.encoding.lower().startswith("utf")):
            reconfigure(encoding=_ENCODING)
