"""What an editor and a type checker know of the package: each checker sees the mistakes that users make."""

import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from memif.aio.interface import AioOptions
from memif.config import InterfaceConfig, SocketOptions
from memif.interface import Options
from memif.ring import Stats
from memif.socket import Socket
from memif.types import QueueStats

RIGHT = """
from typing import assert_type

import memif
from memif import aio

def told(interface: memif.Interface) -> None:
    print(interface.role, interface.stats["rx"][0]["packets"] + interface.tx[0].size)

def sync() -> int:
    with memif.connect("@x", id=3, ring_size=64, mode="ip", on_connect=told) as i:
        i.rx[0].mode = "polling"
        return i.tx[0].send([b"x"]) + i.stats["connects"]

async def waiting(i: aio.Interface) -> int:
    return i.tx[0].send([b"x"]) + i.tx[0].free() + i.rx[0].size

Some = list[memif.RxQueue | memif.Socket]

def first(queue: memif.RxQueue, interface: memif.Interface, sock: memif.Socket, some: Some) -> None:
    assert_type(memif.wait([queue, queue]), list[memif.RxQueue])
    assert_type(memif.wait((interface,), timeout=1.0), list[memif.Interface])
    assert_type(memif.wait({sock}), list[memif.Socket])
    assert_type(memif.wait(some), list[memif.RxQueue | memif.Socket])
    assert_type(memif.wait([queue, interface, sock]), list[memif.RxQueue | memif.Interface | memif.Socket])

async def first_of_aio(queue: aio.RxQueue, interface: aio.Interface, sock: aio.Socket) -> None:
    assert_type(await aio.wait([queue, queue]), list[aio.RxQueue])
    assert_type(await aio.wait([queue, interface, sock]), list[aio.RxQueue | aio.Interface | aio.Socket])
"""

WRONG = {
    "a name that is not there": "import memif\nmemif.MemifDisconectedError\n",
    "an option that is not there": "import memif\nmemif.connect('@x', idd=3)\n",
    "an option of the other kind": "import memif\nmemif.Socket('@x').interface(ring_size='64')\n",
    "a wrong mode": "import memif\nmemif.listen('@x', mode='ether')\n",
    "a wrong role": "import memif\nmemif.connect('@x', role='Slave')\n",
    "a wrong receive mode": "import memif\nmemif.listen('@x').rx[0].mode = 'poling'\n",
    "a wrong seal": "from memif import aio\naio.listen('@x', seal='none')\n",
    "an unknown counter": "import memif\nmemif.listen('@x').stats['conects']\n",
    "an unknown option of asyncio": "from memif import aio\naio.connect('@x', ring_sise=3)\n",
    "waiting for what is no queue": "import memif\nmemif.wait([3])\n",
    "a queue that is waited for is no socket": (
        "import memif\ndef f(queue: memif.RxQueue) -> None:\n    memif.wait([queue])[0].poll()\n"
    ),
    "wrong arguments of send": "from memif import aio\ndef f(i: aio.Interface) -> None:\n    i.tx[0].send(3, 4)\n",
}

CHECKERS = {"mypy": ["mypy", "--strict", "--no-error-summary"], "pyright": ["pyright"]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_errors(checker: str, tmp_path: Path) -> None:
    if find_spec(checker) is None:
        pytest.skip(f"{checker} is missing: make setup")
    (tmp_path / "right.py").write_text(RIGHT)
    for number, text in enumerate(WRONG.values()):
        (tmp_path / f"wrong_{number}.py").write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False, env={**os.environ, "PATH": path},
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if "error" in line]
    assert [line for line in errors if "right.py" in line] == []
    missed = [what for number, what in enumerate(WRONG) if not any(f"wrong_{number}.py" in line for line in errors)]
    assert missed == [], done.stdout + done.stderr


def test_options_are_those_that_are_checked() -> None:
    fields = set(InterfaceConfig.__dataclass_fields__)
    assert set(Options.__annotations__) == set(AioOptions.__annotations__) == fields


def test_options_of_a_socket() -> None:
    assert set(SocketOptions.__annotations__) == set(inspect.signature(Socket).parameters) - {"path"}


def test_counters() -> None:
    assert set(Stats().as_dict()) == set(QueueStats.__annotations__)
