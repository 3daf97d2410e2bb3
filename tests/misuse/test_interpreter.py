"""The end of the interpreter while connected, subinterpreters, threads that are left behind."""

import os
import subprocess
import sys
import textwrap

import pytest

SETUP = """
    import atexit, gc, os, signal, sys, threading, time
    import memif
    from memif.testing import pump, unused_name
    path = unused_name()
    listening, connecting = memif.Socket(path), memif.Socket(path)
    m, s = listening.interface(role="master"), connecting.interface()
    pump(listening, connecting, until=lambda: m.up and s.up)
    s.tx[0].send([b"x" * 60] * 8)
    burst = m.rx[0].recv(timeout=2.0)
    view = burst[0]
"""

ENDINGS = {
    "nothing is closed": "print('end')",
    "sys.exit": "print('end'); sys.exit(0)",
    "an allocated burst is open": "mine = s.tx[0].alloc(4); print('end')",
    "a numpy array is left": "import numpy; a = numpy.frombuffer(view, 'u1'); b = burst.lengths; print('end')",
    "everything is in a cycle": "x = [m, s, burst, view, listening]; x.append(x); print('end')",
    "everything is in collected cycles": """
        for _ in range(20):
            s.tx[0].send([b"x" * 60] * 8)
            x = [m.rx[0].recv(timeout=2.0), s.tx[0].alloc(2, size=60)]
            x += [x, x[0][0], iter(x[1]), m.rx[0].ring]
            del x
            gc.collect()
        print('end')
    """,
    "in an atexit function": """
        atexit.register(lambda: (m.rx[0].recv(timeout=0), burst.release(), m.close(), print('end')))
    """,
    "in a finalizer": """
        class Late:
            def __del__(self, m=m, burst=burst):
                try:
                    burst.tobytes(); m.close()
                finally:
                    print('end')
        late = Late()
    """,
    "a daemon thread waits in recv": """
        threading.Thread(target=m.rx[0].recv, daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "a daemon thread spins": """
        m.rx[0].mode = "polling"
        threading.Thread(target=m.rx[0].recv, daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "a daemon thread polls": """
        threading.Thread(target=listening.poll, daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "a daemon thread sends": """
        def work():
            while True:
                s.tx[0].send([b"y" * 60] * 64)
                m.rx[0].recv(timeout=0).release()
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "in the middle of a handshake": """
        third, fourth = memif.Socket(unused_name()), memif.Socket(unused_name())
        x, y = third.interface(role="master"), memif.Socket(third.address).interface()
        y.socket.poll(0); third.poll(0); y.socket.poll(0)
        assert not x.up and not y.up
        print('end')
    """,
    "a daemon thread waits for room": """
        while s.tx[0].send([b"x" * 60] * 64):
            pass
        threading.Thread(target=s.tx[0].wait_free, args=(64,), daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "a daemon thread copies": """
        import numpy
        matrix = numpy.zeros((256, 2000), "u1")
        def work():
            while True:
                s.tx[0].send_array(matrix)
                burst = m.rx[0].recv(256, timeout=0)
                burst.gather(2000); m.tx[0].forward(burst); burst.release()
                s.rx[0].recv(256, timeout=0).release()
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "a daemon thread runs asyncio": """
        import asyncio, memif.aio
        async def work():
            async with memif.aio.listen(unused_name()) as iface, memif.aio.connect(iface.socket.address) as other:
                await asyncio.gather(iface.rx[0].recv(), other.rx[0].wait())
        threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
        time.sleep(0.2); print('end')
    """,
    "in the middle of asyncio": """
        import asyncio, memif.aio
        async def work():
            iface = await memif.aio.listen(unused_name())
            other = await memif.aio.connect(iface.socket.address)
            task = asyncio.ensure_future(iface.rx[0].recv())
            await other.tx[0].send_all([b"x" * 60])
            print('end')
            sys.exit(0)
        asyncio.run(work())
    """,
    "a daemon thread polls by the C API": """
        from memif import libmemif as c
        sock = c.memif_create_socket(c.memif_socket_args_t(path=unused_name()))[1]
        conn = c.memif_create(c.memif_conn_args_t(socket=sock, is_master=1))[1]
        threading.Thread(target=c.memif_poll_event, args=(sock, -1), daemon=True).start()
        time.sleep(0.1); print('end')
    """,
    "the module is taken away": "sys.modules.clear(); print('end')",
    "os._exit": "print('end', flush=True); os._exit(0)",
}


def run(program: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("name", ENDINGS)
def test_exit_while_connected(name: str) -> None:
    done = run(textwrap.dedent(SETUP) + textwrap.dedent(ENDINGS[name]))
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "end" in done.stdout, done.stderr
    assert "Fatal" not in done.stderr
    assert "Exception ignored" not in done.stderr


INSIDE = """
try:
    import memif.ring
    from memif.testing import pair
    with pair() as (m, s):
        s.tx[0].send([b"x" * 60])
        assert m.rx[0].recv(timeout=2.0).tobytes() == [b"x" * 60]
except ImportError:
    pass                                # refused: as good as working
"""

SUBINTERPRETER = """
    import sys
    try:
        import _interpreters as interpreters        # 3.13 and later: with a lock of its own, and with ours
        others = [lambda: interpreters.create("isolated"), lambda: interpreters.create("legacy")]
    except ImportError:
        import _xxsubinterpreters as interpreters
        others = [lambda: interpreters.create(isolated=True), lambda: interpreters.create(isolated=False)]
    import memif.ring
    from memif.testing import pair
    with pair() as (m, s):
        for create in 2 * others:
            other = create()
            assert interpreters.run_string(other, sys.argv[1]) is None      # 3.13 returns what was raised
            interpreters.destroy(other)
        s.tx[0].send([b"x" * 60])
        assert m.rx[0].recv(timeout=2.0).tobytes() == [b"x" * 60]
    print("end")
"""


def test_subinterpreters() -> None:
    """A second interpreter of the process gets an ImportError or a working module, and harms nobody."""
    done = run(textwrap.dedent(SUBINTERPRETER), INSIDE)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("0", False), ("", False)])
def test_debug_mode_by_environment(value: str, refused: bool) -> None:
    program = textwrap.dedent(SETUP) + textwrap.dedent("""
        try:
            burst.release()
            print("released")
        except memif.MemifStateError as error:
            print("refused", error)
    """)
    done = run(program, MEMIF_DEBUG=value)
    assert done.stdout.startswith("refused" if refused else "released"), done.stderr


def test_imports_again_after_removal() -> None:
    """Taking the package out of sys.modules and importing it anew is odd, but no crash."""
    program = textwrap.dedent(SETUP) + textwrap.dedent("""
        for name in [name for name in sys.modules if name.startswith("memif")]:
            del sys.modules[name]
        try:
            import memif
            memif.Socket("@again").close()
        except ImportError:
            pass
        burst.release()
        print("end")
    """)
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
