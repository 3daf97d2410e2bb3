"""Somebody sets the clock: nothing may notice, because only the monotonic clock is used."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import memif
from memif.control.poller import Poller
from memif.interface import endpoint_of
from patience import within

# The wall clock jumps by years at every look.
JUMPY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long jump(void) { return (rand() % 2 ? 1 : -1) * (rand() % 1000000000L); }
int clock_gettime(clockid_t which, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, t);
    if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) t->tv_sec = 1600000000L + jump();
    return result;
}
int gettimeofday(struct timeval *t, void *zone) { t->tv_sec = 1600000000L + jump(); t->tv_usec = 0; return 0; }
time_t time(time_t *t) { time_t now = 1600000000L + jump(); if (t) *t = now; return now; }
"""

PROGRAM = """
    import sys, time, memif
    from memif.testing import pair, pump
    assert abs(time.time() - time.time()) > 1          # the clock does jump
    for mode in ("interrupt", "polling", "adaptive"):
        with pair(rx_mode=mode, slave={"reconnect": 0.02}) as (master, slave):
            for number in range(50):
                assert slave.tx[0].send([bytes([number]) * 60]) == 1
                with master.rx[0].recv(timeout=2.0) as burst:
                    assert burst.tobytes() == [bytes([number]) * 60]
            start = time.monotonic()
            assert len(master.rx[0].recv(timeout=0.2)) == 0
            assert 0.19 <= time.monotonic() - start < float(sys.argv[1])
            assert not master.rx[0].wait(0.05)
            assert not master.socket.poll(0.05)
            slave.disconnect()
            pump(master.socket, slave.socket, until=lambda: not master.up)
            pump(master.socket, slave.socket, until=lambda: master.up and slave.up)
    try:
        memif.connect("@nobody-listens-here", timeout=0.2)
    except memif.MemifTimeoutError:
        print("good")
"""


@pytest.mark.nosanitizer  # which wants to be the first library to be preloaded
def test_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    source, library = tmp_path / "jumpy.c", tmp_path / "jumpy.so"
    source.write_text(JUMPY)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(within(1.0))],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.stdout == "good\n", done.stderr


def test_a_timer_that_fires_between_the_look_and_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round looks at the clock, then at the descriptors: a time that comes in between is not lost."""
    dispatch = Poller.dispatch

    def late(poller: Poller, *, awake: bool) -> bool:
        left = (iface_deadline() or 0.0) - time.monotonic()
        if 0 < left < 0.1:
            time.sleep(left + 1e-3)
        return dispatch(poller, awake=awake)

    with memif.Socket("@nobody-listens-here") as sock:
        iface = sock.interface(reconnect=0.05)

        def iface_deadline() -> float | None:
            return endpoint_of(iface).deadline

        monkeypatch.setattr(Poller, "dispatch", late)
        for _ in range(5):
            before, started = iface_deadline(), time.monotonic()
            assert sock.poll(within(20.0))
            assert time.monotonic() - started < within(10.0), "the attempt to connect came when the call gave up"
            assert iface_deadline() != before
