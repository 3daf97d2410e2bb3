"""Defaults of a link that a user keeps outside of programs: in a file of profiles, and in the environment.

The file is ``$XDG_CONFIG_HOME/memif.toml``, by default ``~/.config/memif.toml``::

    socket = "/run/vpp/memif.sock"   # for all links

    # A profile: memif ping -P lab 10.0.0.1, memif.connect(profile="lab")
    [lab]
    socket = "/tmp/lab.sock"
    id = 3
    secret-file = "lab.secret"       # beside this file

Its keys are the link options of the command line without their dashes. Each has a variable in the environment as well:
``MEMIF_SOCKET``, ``MEMIF_RX_QUEUES`` and so on, and ``MEMIF_PROFILE`` names the profile.

What counts is, in this order: the argument or option, the profile, the environment, the keys at the top of the file.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from memif.address import SocketName, parse_address
from memif.errors import MemifTypeError, MemifValueError

#: The keys of the file, which are the link options of the command line.
KEYS: Final = (
    "socket",
    "id",
    "role",
    "secret",
    "secret-file",
    "mode",
    "rx-queues",
    "tx-queues",
    "ring-size",
    "buffer-size",
    "rx-mode",
)
_NUMBERS: Final = ("id", "rx-queues", "tx-queues", "ring-size", "buffer-size")
_SECRETS: Final = ("secret", "secret-file")

Options = dict[str, Any]


def config_file() -> Path:
    """Return the path of the file of profiles, which need not exist."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".config") / "memif.toml"


def variable(key: str) -> str:
    """Return the name of a key's variable in the environment: "rx-queues" has ``MEMIF_RX_QUEUES``."""
    return "MEMIF_" + key.upper().replace("-", "_")


def profile_names() -> list[str]:
    """Return the names of all profiles; none if the file is missing or cannot be read."""
    try:
        return [name for name, value in _read(config_file()).items() if isinstance(value, dict)]
    except MemifValueError:
        return []


def link_options(profile: str | None = None, *, environment: bool = True) -> Options:
    """Return the options of a link that the file and the environment give.

    Args:
        profile: Name of a profile; None takes that of ``MEMIF_PROFILE``, if it is set.
        environment: Whether the other variables count. Not for a program with several links, whose secrets differ.

    Returns:
        Arguments of `memif.Socket.interface` by name, and ``socket``. A secret file has been read.

    Raises:
        MemifValueError: There is no such profile, or a value or key is not allowed. The error says where it stands.
    """
    file = config_file()
    content = _read(file)
    name = os.environ.get(variable("profile"), "") if profile is None else profile
    result = _checked({key: each for key, each in content.items() if not isinstance(each, dict)}, str(file), file)
    if environment:
        result |= _environment()
    if profile is not None or name:
        result |= _profile(content, name, file)
    return result


def fill(path: SocketName | None, options: Options, profile: str) -> tuple[SocketName | None, Options]:
    """Complete what a caller of `memif.connect` gave by a profile.

    Args:
        path: The control socket, or None.
        options: The options of the interface.
        profile: Name of a profile.

    Returns:
        Socket and options.

    Raises:
        MemifValueError: See `link_options`.
    """
    if not isinstance(profile, str):
        raise MemifTypeError.argument("profile", profile, "the name of a profile")
    found = link_options(profile)
    socket = found.pop("socket", None)
    return socket if path is None else path, found | options


def read_secret(file: str | os.PathLike[str]) -> bytes:
    """Return the first line of a file, a secret. Raises ``OSError``."""
    with open(file, "rb") as source:
        return source.readline(1024).rstrip(b"\r\n")


def _profile(content: Mapping[str, Any], name: str, file: Path) -> Options:
    names = [key for key, value in content.items() if isinstance(value, dict)]
    if name not in names:
        allowed = f"those of {file}: " + ", ".join(map(repr, names)) + _meant(name, names)
        if not names:
            allowed = f"none, as {file} " + ("has no [table]" if file.exists() else "does not exist")
        raise MemifValueError.argument("profile", name, allowed)
    return _checked(content[name], f"{file}, [{name}]", file)


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with open(file, "rb") as source:
            content = tomllib.load(source)
            mode = os.fstat(source.fileno()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise MemifValueError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MemifValueError(f"{file}: {error}") from error
    tables = [content, *(table for table in content.values() if isinstance(table, dict))]
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and any("secret" in table for table in tables):
        raise MemifValueError(f"{file} has a secret in it and is open to others: chmod 600 it, or use secret-file")
    return content


def _checked(given: Mapping[str, Any], where: str, file: Path) -> Options:
    """The options of a table of the file."""
    result: Options = {}
    for key, value in given.items():
        if key not in KEYS:
            raise MemifValueError(f"{where}: unknown key {key!r}{_meant(key, KEYS)}; there are " + ", ".join(KEYS))
        if isinstance(value, dict | list):
            raise MemifValueError(f"{where}: {key}: a single value, not {type(value).__name__}")
        if key == "secret-file":
            value = file.parent / os.path.expanduser(_text(value, f"{where}: {key}"))
        _put(result, key, value, f"{where}: {key}")
    return result


def _environment() -> Options:
    """The options of the environment; an empty variable is none."""
    result: Options = {}
    for key in KEYS:
        text = os.environ.get(name := variable(key), "")
        if not text:
            continue
        value: int | str = text
        if key in _NUMBERS:
            try:
                value = int(text)
            except ValueError as error:
                raise MemifValueError(f"{name}: {text!r} is not a number") from error
        _put(result, key, value, name)
    return result


def _put(result: Options, key: str, value: Any, where: str) -> None:
    """Check a value and put it among the options; `where` it stands is for the error."""
    if key in _SECRETS and "secret" in result:
        raise MemifValueError(f"{where}: there is another secret beside it, only one of them can hold")
    from memif.config import InterfaceConfig  # late: Wireshark asks its extcap several times for what needs none of it

    name = "secret" if key == "secret-file" else key.replace("-", "_")
    try:
        if key == "secret-file":
            value = read_secret(value)
        if key == "socket":
            parse_address(_text(value, where), argument=name)
        else:
            InterfaceConfig.make(**{name: value})
    except OSError as error:
        raise MemifValueError(f"{where}: {value}: {error.strerror}") from error
    except MemifValueError as error:
        raise MemifValueError(f"{where}: {error.detail.removeprefix(f'argument {name}: ')}") from error
    result[name] = value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MemifValueError(f"{where}: text in quotes, not {value!r}")
    return value


def _meant(word: str, known: Iterable[str]) -> str:
    """What was most likely meant by `word`, as the end of an error; nothing when that cannot be told."""
    near = get_close_matches(word.lower().replace("_", "-"), known, 1)
    return f", did you mean {near[0]!r}?" if near else ""
