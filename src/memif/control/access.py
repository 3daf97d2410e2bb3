"""Why this process may not use a path: the reason in words, with what would help.

"Permission denied" on a control socket is the first thing that most users of VPP meet, as its sockets are
open to root and to one group only. The kernel does not say which of the directories or modes was in the way;
this finds it out.

Only for error messages: what it sees may have changed since the failed call.
"""

import grp
import os
import pwd
import stat


def describe_denial(path: str, *, create: bool = False) -> str:
    """Say why this process may not connect to the socket at `path`, or create it, and what would help."""
    folder = os.path.dirname(os.path.abspath(path))
    for parent in _from_root(folder):
        if not os.access(parent, os.X_OK, effective_ids=True):
            return f"directory {_owner(parent)} cannot be entered by {_self()}"
    if create:
        return f"directory {_owner(folder)} cannot be written by {_self()}"
    return f"socket {_owner(path)} cannot be written by {_self()}; {_remedy(path)}"


def _from_root(folder: str) -> list[str]:
    parts = [folder]
    while parts[-1] != os.path.dirname(parts[-1]):
        parts.append(os.path.dirname(parts[-1]))
    return parts[::-1]


def _owner(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return path
    owner = f"{user_name(info.st_uid)}:{group_name(info.st_gid)}"
    return f"{path} (owner {owner}, mode {info.st_mode & 0o7777:04o})"


def _self() -> str:
    groups = sorted({os.getegid(), *os.getgroups()})
    return f"user {user_name(os.geteuid())} (groups {', '.join(group_name(gid) for gid in groups)})"


def _remedy(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return "run as root"
    if info.st_mode & stat.S_IWGRP:
        group, user = group_name(info.st_gid), user_name(os.geteuid())
        return f"join its group (usermod -aG {group} {user}, then log in again) or run as root"
    return "run as its owner or as root, or let the listener set another mode or group"


def user_name(uid: int) -> str:
    """Return the name of user `uid`, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of group `gid`, or its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
