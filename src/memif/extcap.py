"""Wireshark's way to a memif: an extcap program.

``memif extcap --install`` puts a launcher where Wireshark looks for such programs; from then on "memif" stands
in its list of interfaces, with a dialog for the control socket, id, role and so on. tshark takes the same
settings as preferences::

    tshark -i memif -o extcap.memif.socket:/run/vpp/memif.sock -o extcap.memif.id:1

with all words but the secret's, and without their dashes (``extcap.memif.ringsize``). Wireshark keeps secrets
out of its preferences. Defaults of all settings come from the environment (MEMIF_SECRET and so on) and from
profiles, see `memif.profiles`; MEMIF_PROFILE names one.

The capture is one end of the link: it shows what the peer sends to it (a mirror port, say), and never answers.
It waits while there is no peer. Everything in here but the capture itself loads in a few milliseconds, because
Wireshark calls the program several times when it starts.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from memif.capture import PcapngWriter
    from memif.interface import Interface
    from memif.packet import Filter

_NAME = "memif"
_DLTS = ((1, "EN10MB", "Ethernet"), (101, "RAW", "Raw IP"))
_LOOK_EVERY = 0.1  # seconds: the longest time until a reader that has gone is noticed


class _Option(NamedTuple):
    """One setting: an argument of the program and a line of Wireshark's dialog."""

    name: str
    display: str
    type: str
    default: str
    tooltip: str
    more: str = ""
    values: tuple[str, ...] = ()
    group: str = "Link"


_OPTIONS = (
    _Option("socket", "Control socket", "string", "/run/vpp/memif.sock", "A path, @abstract or abstract:name"),
    _Option("id", "Interface id", "unsigned", "0", "Both ends must agree on it", "{range=0,4294967295}"),
    _Option("role", "Role", "selector", "slave", "A slave connects to the peer's socket, a master waits for the peer",
            values=("slave", "master")),
    _Option("mode", "Mode", "selector", "ethernet", "What the packets start with; both ends must agree",
            values=("ethernet", "ip")),
    _Option("secret", "Secret", "password", "", "If the peer asks for one; at most 23 bytes"),
    _Option("secret-file", "Secret file", "fileselect", "", "File whose first line is the secret", "{mustexist=true}"),
    _Option("rx-queues", "Receive queues", "unsigned", "1", "Slave: how many to offer; master: the most to accept",
            "{range=1,255}", group="Rings"),
    _Option("ring-size", "Ring size", "unsigned", "1024", "Slave: slots of each ring, a power of two up to 16384",
            "{range=2,16384}", group="Rings"),
    _Option("buffer-size", "Buffer size", "unsigned", "2048", "Slave: bytes of each buffer", "{range=64,65535}",
            group="Rings"),
    _Option("snaplen", "Snap length", "unsigned", "65536", "Bytes kept of each packet", "{range=1,262144}",
            group="Rings"),
)  # fmt: skip
_NUMBERS = [option.name.replace("-", "_") for option in _OPTIONS if option.type == "unsigned"]
_ROLES = {"slave": "slave", "client": "slave", "master": "master", "server": "master"}


# -- what Wireshark asks


def interfaces() -> str:
    """Return the answer to ``--extcap-interfaces``: one interface."""
    from memif import __version__

    return f"extcap {{version={__version__}}}\ninterface {{value={_NAME}}}{{display=memif shared memory interface}}"


def dlts() -> str:
    """Return the answer to ``--extcap-dlts``; the capture says which of them applies, by its mode."""
    return "\n".join(f"dlt {{number={n}}}{{name={name}}}{{display={text}}}" for n, name, text in _DLTS)


def _defaults() -> dict[str, Any]:
    """The default of each setting, by its name."""
    from memif.profiles import link_options

    found = {name.replace("_", "-"): value for name, value in link_options().items()}
    found |= {"role": _ROLES.get(found.get("role", ""), "slave")}
    own = {option.name: option.default for option in _OPTIONS}
    allowed = {option.name: option.values for option in _OPTIONS if option.values}
    return own | {name: value for name, value in found.items() if name in own and value in allowed.get(name, [value])}


def config() -> str:
    """Return the answer to ``--extcap-config``: the dialog."""
    lines, values = [], []
    defaults = _defaults() | {"secret": ""}  # which is not for the screen
    for number, option in enumerate(_OPTIONS):
        default = f"{{default={defaults[option.name]}}}" if defaults[option.name] != "" else ""
        lines.append(
            f"arg {{number={number}}}{{call=--{option.name}}}{{display={option.display}}}{{type={option.type}}}"
            f"{default}{{tooltip={option.tooltip}}}{option.more}{{group={option.group}}}"
        )
        for value in option.values:
            chosen = "true" if value == defaults[option.name] else "false"
            values.append(f"value {{arg={number}}}{{value={value}}}{{display={value}}}{{default={chosen}}}")
    return "\n".join(lines + values)


# -- the capture


def _secret(options: argparse.Namespace) -> str | bytes | None:
    """The secret of the file, else that of the option or of the defaults."""
    if options.secret_file:
        from memif.profiles import read_secret

        return read_secret(options.secret_file)
    return options.secret or None


def capture(fifo: str, options: argparse.Namespace) -> None:
    """Write what the peer sends as pcapng, until the reader closes the FIFO or SIGTERM, SIGINT or SIGHUP comes.

    Args:
        fifo: Where to write.
        options: The settings of the dialog, as attributes.

    Raises:
        MemifError: A setting is invalid, or the peer refuses for good.
    """
    stop = _Stop()
    import logging

    from memif.capture import CapturePipeClosedError, LinkType, PcapngWriter
    from memif.socket import Socket

    # Errors that end the capture come as exceptions; their log lines would show them twice.
    logging.getLogger("memif").addHandler(logging.NullHandler())
    link = LinkType.ETHERNET if options.mode == "ethernet" else LinkType.RAW
    keep = _filter(options.extcap_capture_filter, options.mode)
    with Socket(options.socket, app_name="Wireshark") as sock:
        iface = sock.interface(
            id=options.id, role=options.role, mode=options.mode,
            secret=_secret(options),
            rx_queues=options.rx_queues, ring_size=options.ring_size, buffer_size=options.buffer_size,
        )  # fmt: skip
        try:
            with PcapngWriter(fifo, snaplen=options.snaplen, application="memif extcap", stop=stop) as writer:
                text = f"{options.role} of {sock.address}, id {options.id}"
                writer.add_interface(name=iface.name, linktype=link, description=text)
                _pump(iface, writer, keep, stop)
                _note_drops(iface, writer)
        except CapturePipeClosedError:
            return


def _pump(iface: "Interface", writer: "PcapngWriter", keep: "Filter | None", stop: "_Stop") -> None:
    from memif.errors import MemifDisconnectedError, MemifTimeoutError

    looked = time.monotonic()
    while not stop():
        moved = _take_all(iface, writer, keep)  # first: a peer that has left may have sent something before
        if not moved and not iface.up:
            with suppress(MemifTimeoutError, MemifDisconnectedError):
                iface.wait_up(_LOOK_EVERY)
        if not moved or time.monotonic() - looked > _LOOK_EVERY:
            looked = time.monotonic()
            writer.check_reader()


def _take_all(iface: "Interface", writer: "PcapngWriter", keep: "Filter | None") -> int:
    """Write what passes of a burst of each queue, after waiting for one while the link is up.

    Returns:
        Packets received, whether they passed or not.
    """
    from memif.errors import MemifDisconnectedError
    from memif.waiting import wait

    total = 0
    for queue in iface.rx:
        # With several queues none may hold up the others.
        timeout = _LOOK_EVERY if len(iface.rx) == 1 else 0.0
        with suppress(MemifDisconnectedError), queue.recv(256, timeout=timeout) as burst:
            if burst:
                total += len(burst)
                writer.write_packets(burst if keep is None else burst.select(keep), direction="in")
    if not total and len(iface.rx) > 1:
        with suppress(MemifDisconnectedError):
            wait(iface.rx, _LOOK_EVERY)
    return total


def _note_drops(iface: "Interface", writer: "PcapngWriter") -> None:
    rx = iface.stats["rx"]
    dropped = sum(queue["dropped_bad"] + queue["dropped_oversize"] + queue["dropped_left"] for queue in rx)
    writer.set_statistics(0, dropped=dropped)


class _Stop:
    """True after SIGTERM, which is how Wireshark ends a capture, SIGINT, or SIGHUP unless that is ignored (nohup).

    Ctrl-C in tshark brings two of them.
    """

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, *_: object) -> None:
        self._asked = True


# -- the launcher


def folders() -> "list[Path]":
    """Return where the launcher belongs: the personal extcap folder of the installed Wireshark, as it reports itself.

    Older versions do not report it; theirs is in the configuration folder. Without Wireshark, both are returned.
    """
    from pathlib import Path

    home = os.environ.get("HOME") or os.path.expanduser("~")
    new = Path(home) / ".local/lib/wireshark/extcap"
    told = _told_folders()
    if "Personal Extcap path" in told:
        return [Path(told["Personal Extcap path"])]
    if "Personal configuration" in told:
        return [Path(told["Personal configuration"]) / "extcap"]
    return [new, Path(os.environ.get("XDG_CONFIG_HOME") or Path(home) / ".config") / "wireshark/extcap"]


def _told_folders() -> dict[str, str]:
    for program in ("tshark", "wireshark"):
        if shutil.which(program) is None:
            continue
        try:
            answer = subprocess.run([program, "-G", "folders"], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        pairs = (line.partition(":") for line in answer.stdout.splitlines())
        return {name.strip(): path.strip() for name, _, path in pairs}
    return {}


def install(folder: "str | os.PathLike[str] | None" = None) -> "list[Path]":
    """Install the launcher, which runs this interpreter.

    Args:
        folder: Where to put it (default: all of `folders`).

    Returns:
        The files that were written.

    Raises:
        OSError: A file cannot be written.
        RuntimeError: The installed launcher does not work.
    """
    from pathlib import Path

    written = []
    for place in [Path(folder)] if folder is not None else folders():
        place.mkdir(parents=True, exist_ok=True)
        file = place / _NAME
        file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m memif.extcap "$@"\n')
        file.chmod(0o755)
        answer = subprocess.run([file, "--extcap-interfaces"], capture_output=True, text=True, timeout=60)
        if answer.stdout.strip() != interfaces():
            raise RuntimeError(f"{file} does not work: {answer.stderr.strip() or answer.stdout.strip()}")
        written.append(file)
    return written


def uninstall(folder: "str | os.PathLike[str] | None" = None) -> "list[Path]":
    """Remove the launcher from `folder` (default: all of `folders`); return the files that were removed."""
    from pathlib import Path

    files = [place / _NAME for place in ([Path(folder)] if folder is not None else folders())]
    there = [file for file in files if file.exists()]
    for file in there:
        file.unlink()
    return there


# -- the program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: The command line without the program's name (default: that of this process).

    Returns:
        The exit code: 1 for errors, which are one line on standard error, shown by Wireshark.

    Raises:
        SystemExit: 2 for wrong usage.
    """
    parser = _parser()
    # Newer versions of Wireshark may ask with options that are not known here.
    options, _ = parser.parse_known_args(argv)
    try:
        return _run(options, parser)
    except (OSError, RuntimeError, ValueError) as error:
        return _fail(error)
    except Exception as error:
        from memif.errors import MemifError

        if not isinstance(error, MemifError):
            raise
        return _fail(error)


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.install or options.uninstall:
        for file in install(options.folder) if options.install else uninstall(options.folder):
            print(file)
    elif options.extcap_interfaces:
        print(interfaces())
    elif options.extcap_interface not in (None, _NAME):
        return _fail(f"no interface {options.extcap_interface!r}, only {_NAME!r}")
    elif options.extcap_dlts:
        print(dlts())
    elif options.extcap_config:
        print(config())
    elif options.extcap_capture_filter and not options.capture:
        print(_fault_of(options.extcap_capture_filter, options.mode), end="")
    elif options.capture:
        if not options.fifo:
            parser.error("--capture needs --fifo")
        for name, value in _defaults().items():
            name = name.replace("-", "_")
            if getattr(options, name) is None:
                setattr(options, name, int(value) if name in _NUMBERS else value)
        capture(options.fifo, options)
    else:
        parser.print_help()
    return 0


def _fault_of(expression: str, mode: str | None) -> str:
    """Return why a capture filter cannot be used, which Wireshark shows; nothing where it can."""
    from memif.errors import MemifError

    try:
        _filter(expression, mode or "ethernet")
    except MemifError as error:
        return f"{error}\n"
    return ""


def _filter(expression: str | None, mode: str) -> "Filter | None":
    if not expression:
        return None
    from memif.packet import Filter

    return Filter(expression, mode="ethernet" if mode == "ethernet" else "ip")


def _fail(error: object) -> int:
    print(f"memif: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memif extcap", allow_abbrev=False, description="Wireshark's interface to memif (an extcap program)."
    )
    own = parser.add_argument_group("installation")
    own.add_argument("--install", action="store_true", help="make memif known to Wireshark, for this user")
    own.add_argument("--uninstall", action="store_true", help="undo --install")
    own.add_argument("--folder", metavar="PATH", help="the extcap folder (default: Wireshark's personal one)")
    asked = parser.add_argument_group("asked by Wireshark")
    for name in ("extcap-interfaces", "extcap-dlts", "extcap-config", "capture"):
        asked.add_argument(f"--{name}", action="store_true")
    for name in ("extcap-interface", "extcap-version", "extcap-capture-filter", "fifo"):
        asked.add_argument(f"--{name}", nargs="?" if name == "extcap-version" else None, metavar="X")
    settings = parser.add_argument_group("settings of a capture")
    for option in _OPTIONS:
        kind: dict[str, Any] = {"type": int} if option.type == "unsigned" else {"choices": option.values or None}
        settings.add_argument(
            f"--{option.name}", **kind,
            metavar=option.type.upper() if not option.values else None, help=option.tooltip,
        )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
