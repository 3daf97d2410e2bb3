"""Run a function in a forked child: to see it killed, or to be another user."""

import faulthandler
import os
import resource
from collections.abc import Callable

#: A user and group with no rights at all on nearly every system.
NOBODY = 65534


def in_child(run: Callable[[], int]) -> int:
    """Run `run` in a child; return the wait status, in which its result (0 to 255) is the exit status."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            # A child that is meant to be killed by a signal shall do it quietly.
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            status = run()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def text_of_child(run: Callable[[], str], *, uid: int = NOBODY, gid: int = NOBODY) -> str:
    """Return what `run` returns, or raises, as text, from a child that is user `uid` if we are root."""
    reader, writer = os.pipe()

    def child() -> int:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        try:
            text = run()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4096])
        return 0

    in_child(child)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        return file.read()
