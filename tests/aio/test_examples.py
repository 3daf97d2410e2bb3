"""The examples of the asyncio API, as programs."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import memif
import memif.aio

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_echo() -> None:
    """It ends by itself and says what it should."""
    words = [sys.executable, "-W", "error", str(EXAMPLES / "aio_echo.py")]
    output = subprocess.run(words, capture_output=True, text=True, timeout=40, check=True).stdout
    assert output.startswith("10000 packets came back in order\n")
    assert "the link is down" in output


def frame(target: int, source: int, text: bytes) -> bytes:
    """An Ethernet frame between hosts 02:..:target and 02:..:source."""
    return b"\x02\0\0\0\0" + bytes([target]) + b"\x02\0\0\0\0" + bytes([source]) + b"\x88\xb5" + text


async def talk(path: str) -> None:
    """Three hosts: the first frame goes to all, the answer to one only."""
    async with contextlib.AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(memif.aio.connect(path, id=i, timeout=20)) for i in range(3)]

        async def received(number: int, timeout: float = 5.0) -> list[bytes]:
            with await hosts[number].rx[0].recv(timeout=timeout) as burst:
                return burst.tobytes()

        question = frame(1, 0, b"hello")
        await hosts[0].tx[0].send_all([question])
        assert await received(1) == [question]
        assert await received(2) == [question]
        answer = frame(0, 1, b"hi")
        await hosts[1].tx[0].send_all([answer])
        assert await received(0) == [answer]
        assert await received(2, 0.05) == []


def test_switch(socket_path: str) -> None:
    """Hosts on three of its ports, then Ctrl-C."""
    words = [sys.executable, "-u", "-W", "error", str(EXAMPLES / "aio_switch.py"), socket_path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            assert "listening" in process.stdout.readline()
            asyncio.run(talk(socket_path))
            lines = [process.stdout.readline() for _ in range(6)]
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert sorted(lines) == sorted(
        f"port{i}: {text}\n" for i in range(3) for text in ("memif for Python is here", "interface deleted")
    )
