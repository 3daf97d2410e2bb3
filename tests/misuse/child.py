"""The process in which an object is misused. ``python -m misuse.child`` forks one for each line that it reads;
``python -m misuse.child OBJECT SITUATION`` is one."""

import faulthandler
import gc
import os
import signal
import sys
import traceback

LIMIT = float(os.environ.get("MEMIF_MISUSE_LIMIT", "20"))


def run(words: list[str]) -> int:
    """One job. Whatever hangs is ended with the stack of all threads."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    try:
        load()
        from misuse import jobs

        return jobs.run(words)
    except BaseException:
        traceback.print_exc()
        return 3


def load() -> None:
    """Import everything. What is there by then is no garbage: frozen, it makes collections quick."""
    import misuse.jobs  # noqa: F401

    gc.collect()
    gc.freeze()


def serve() -> list[str] | None:
    """Fork for each line. -> the words of the line, in the child; None at the end of the input."""
    load()

    while line := sys.stdin.readline():
        path, *words = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)
            os.close(null)
            return words
        status = os.waitpid(pid, 0)[1]
        print(status, flush=True)
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    job = sys.argv[1:] or serve()
    if job is not None:
        # The interpreter's own end is part of the test, so no os._exit.
        sys.exit(run(job))
