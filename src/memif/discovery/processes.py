"""Which processes have a socket open, and whether they speak memif."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: What a process that speaks memif has loaded: VPP's plugin, DPDK's driver, the C library, this package.
_IMPLEMENTATIONS: Final = (b"/memif_plugin.so", b"/librte_net_memif.so", b"/libmemif.so", b"/memif/system/_steady.")
#: What is in the file of a program that has one linked in: DPDK's driver or the C library, one written in Go.
_LINKED_IN: Final = b"memif"
_LARGEST: Final = 1 << 30
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """A process.

    Attributes:
        pid: Its number.
        program: Its name; for a Python program, that of its script or module.
        uid: User id that it runs as.
    """

    pid: int
    program: str
    uid: int


def holders(inodes: Collection[int]) -> dict[int, list[Process]]:
    """Return the processes that have each of these sockets open; those of other users are seen by root only."""
    wanted = {b"socket:[%d]" % inode: inode for inode in inodes}
    found: dict[int, list[Process]] = {}
    for pid in _pids():
        for inode in {wanted[link] for link in _links(pid) if link in wanted}:
            process = look_up(pid)
            if process is not None:
                found.setdefault(inode, []).append(process)
    return found


def look_up(pid: int) -> Process | None:
    """Return what a process is; None if there is no such process."""
    folder = Path(f"/proc/{pid}")
    try:
        name = (folder / "comm").read_text(errors="replace").rstrip("\n")
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        python = os.path.basename(words[0]).startswith("python")
        return Process(pid, _script(words) if python else name, folder.stat().st_uid)
    except OSError:
        return None


def speaks_memif(pid: int) -> bool | None:
    """Say whether a process has an implementation of memif, loaded or linked in; None if it may not be looked at."""
    try:
        memory = Path(f"/proc/{pid}/maps").read_bytes()
        return any(name in memory for name in _IMPLEMENTATIONS) or _contains(f"/proc/{pid}/exe", _LINKED_IN)
    except OSError:
        return None


def _contains(file: str, word: bytes) -> bool:
    """Whether a word is in a file."""
    with open(file, "rb") as source:
        tail = b""
        while source.tell() < _LARGEST and (piece := source.read(_PIECE)):
            if word in tail + piece:
                return True
            tail = piece[-len(word) :]
    return False


def folder_of(pid: int) -> str | None:
    """Return the current directory of a process; None if it may not be looked at."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return None


def _pids() -> Iterator[int]:
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def _links(pid: int) -> Iterator[bytes]:
    folder = b"/proc/%d/fd" % pid
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                yield os.readlink(folder + b"/" + name)


def _script(words: list[str]) -> str:
    """The name of a Python program, from its command line: that of its script or module, and the verb of ours."""
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        rest = rest[2:] if rest[0] in ("-W", "-X") else rest[1:]
    if not rest or rest[0] in ("-c", "-"):
        return os.path.basename(words[0])
    name, *more = rest[1:] if rest[0] == "-m" else [os.path.basename(rest[0]), *rest[1:]]
    return f"{name} {more[0]}" if name == "memif" and more and more[0].isprintable() else name
