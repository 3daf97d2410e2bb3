"""Each example by its command line, in every role it has, against another example, testpmd or the kernel's ping."""

import ast
import contextlib
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memif
from libmemif_examples.programs import EXAMPLES, PATIENCE, Program, console, example, until
from memif.icmp import echo_requests
from patience import within
from peers.tap import KernelPort
from peers.testpmd import Testpmd

#: Programs that take commands; the others connect by themselves.
CONSOLES = ("icmp_responder_epoll", "icmp_responder_mt", "icmp_responder_zero_copy_slave", "icmp_responder_eb")
#: Program and role of all that answer pings.
RESPONDERS = [
    ("icmp_responder", "slave"),
    ("icmp_responder_epoll", "slave"),
    ("icmp_responder_epoll", "master"),
    ("icmp_responder_mt", "slave"),
    ("icmp_responder_zero_copy_slave", "slave"),
    ("icmp_responder_zero_copy_slave", "master"),
    ("icmp_responder_eb", "slave"),
    ("icmp_responder_eb", "master"),
    ("icmp_responder_4_0", "slave"),
    ("icmp_responder_4_0", "master"),
]
#: Programs with two queues in each direction.
TWO_QUEUES = ("icmp_responder", "icmp_responder_mt")
#: Requests without an answer at one time: in six buffers each they fit into a ring of 1024.
IN_FLIGHT = 150


def responder(name: str, role: str, path: str) -> list[str]:
    """Words that start a responder for 192.168.1.2."""
    if name == "icmp_responder_4_0":
        return example(name, "-r", role, "-s", path, "-a", "192.168.1.2", "-h", "32" if role == "slave" else "0")
    return example(name, "--socket", path)


def begin(program: Program, name: str, role: str) -> None:
    """Let a console create its interface."""
    if name in CONSOLES:
        program.tell("conn 0" if name == "icmp_responder_mt" else f"conn 0 {int(role == 'master')}")


def finish(program: Program, name: str) -> None:
    """End it as its user does."""
    if name in CONSOLES:
        program.tell("exit")
    else:
        program.interrupt()
    assert "Traceback" not in program.ended()


@contextlib.contextmanager
def recorded(port: KernelPort, file: Path, size: int) -> Iterator[None]:
    """Context: what passes the kernel's interface goes into `file`, which is waited for to have `size` bytes."""
    words = ["ip", "netns", "exec", port.netns, "dumpcap", "-q", "-i", "dtap0", "-w", str(file)]
    recorder = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert recorder.stderr is not None
        while b"File:" not in (line := recorder.stderr.readline()):
            assert line, "dumpcap did not start"
        yield
        until(lambda: file.stat().st_size >= size)  # dumpcap takes packets in blocks
    finally:
        recorder.terminate()
        recorder.communicate(timeout=PATIENCE)


def fields(file: Path, *names: str, only: str = "icmp || arp") -> list[list[str]]:
    """What tshark makes of a capture, checksums checked: one row a packet."""
    words = ["tshark", "-r", str(file), "-o", "ip.check_checksum:TRUE", "-Y", only, "-T", "fields"]
    words += [word for name in names for word in ("-e", name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.dpdk
@pytest.mark.parametrize(("name", "role"), RESPONDERS)
def test_answers_the_kernel(
    name: str, role: str, kernel_port: Callable[..., KernelPort], socket_path: str, tmp_path: Path
) -> None:
    if shutil.which("tshark") is None or shutil.which("dumpcap") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    options: dict[str, Any] = {"queues": 2} if name in TWO_QUEUES else {}
    with contextlib.ExitStack() as stack:
        if role == "slave":
            port = kernel_port("server", **options)
        program = stack.enter_context(Program(responder(name, role, socket_path)))
        begin(program, name, role)
        if role == "master":
            until(lambda: Path(socket_path).exists())
            port = kernel_port("client", **options)
        program.expect("^INFO: memif connected!")
        port.testpmd.wait_link(PATIENCE)
        file = tmp_path / "icmp.pcapng"
        with recorded(port, file, 20 * (98 + 1442)):
            for size in (56, 1400):
                result = port.ping("192.168.1.2", 10, size=size)
                # ping waits for its last answers no longer than two of the usual round trips, and so misses some when
                # the machine is busy: that every single one was given is asked of the capture, below.
                assert (result.duplicates, result.corrupted) == (0, False), result.output
        port.testpmd.stop()
        finish(program, name)
    rows = fields(file, "icmp.type", "ip.checksum.status", "icmp.checksum.status", "frame.len")
    replies = [row for row in rows if row[0] == "0"]
    assert len(replies) == 20
    assert {row[1] for row in replies} == {"1"} == {row[2] for row in replies}  # 1: good
    assert [int(row[3]) for row in replies] == [98] * 10 + [1442] * 10


@pytest.mark.dpdk
def test_answers_go_to_the_chosen_queue(testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    """The optional argument of 18.07's icmp_responder."""
    mac = "02:fe:00:00:00:01"
    peer = testpmd("server", queues=2, forward="icmpecho", mac=mac)
    with Program(example("icmp_responder", "--socket", socket_path, "1")) as program:
        program.expect("^INFO: tx qid: 1$")
        program.expect("^INFO: memif connected!$")
        shown = program.expect(r"(?s)MEMIF DETAILS\n={30}\ninterface index: 0\n.*\tlink: up\n")[0]
        peer.wait_link()
        finish(program, "icmp_responder")
    assert shown.count("queue id: ") == 4
    assert shown.count("ring size: 1024\n") == 4
    assert "\tremote interface name: net_memif0\n" in shown
    assert shown.count("socket filename") == 1


def test_wrong_queue_is_refused(socket_path: str) -> None:
    with Program(example("icmp_responder", "--socket", socket_path, "2")) as program:
        assert "there are two, 0 and 1" in program.ended(2)


def test_threads_are_shown(socket_path: str) -> None:
    """icmp_responder-mt against a console: four queues, two threads, which end with the link."""
    with (
        Program(console("--socket", socket_path)) as master,
        Program(example("icmp_responder_mt", "--socket", socket_path)) as slave,
    ):
        master.tell("conn 3 1")
        until(lambda: Path(socket_path).exists())
        slave.tell("conn 3")
        slave.expect("^INFO: memif connected! index 3$")
        slave.expect("^INFO: pthread id 6 starts in polling mode$")
        slave.expect("^INFO: pthread id 7 starts in interrupt mode$")
        master.expect("connected!")
        master.tell("send 3 100 192.168.4.2 2:2:2:2:2:2")
        until(lambda: master.counters(3)["rx"] == 100)
        slave.tell("show")
        for qid, mode in enumerate(("polling", "interrupt")):
            slave.expect(
                rf"\t\tqueue id: {qid}\n\t\tring size: 1024\n\t\tring rx mode: {mode}\n\t\tring head: \d+\n"
                rf"\t\tring tail: \d+\n\t\tbuffer size: 2048\n\t\tthread id: {6 + qid}\n"
                r"\t\tthread connection index: 3\n\t\tthread running: yes\n"
            )
        slave.tell("del 3")
        for _ in range(2):
            slave.expect(r"^INFO: pthread id \d exit$")
        slave.tell("conn 3")  # and again
        slave.expect("^INFO: memif connected! index 3$")
        slave.tell("sh-count")
        slave.expect("unknown command: sh-count")
        slave.tell("exit")
        slave.ended()


def test_zero_copy_slave_sends_one_flow_at_a_time(socket_path: str) -> None:
    with (
        Program(console("--socket", socket_path)) as master,
        Program(example("icmp_responder_zero_copy_slave", "--socket", socket_path)) as slave,
    ):
        master.tell("conn 0 1", "conn 1 1")
        until(lambda: Path(socket_path).exists())
        slave.tell("conn 0 0 1", "conn 1 0")
        for _ in range(2):
            slave.expect("connected!")
        slave.tell("send 0 100000000 192.168.1.2 2:2:2:2:2:2", "send 1 5 192.168.1.2 2:2:2:2:2:2")
        slave.expect("^INFO: only one flow allowed$")
        slave.tell("del 0")
        slave.expect("existing conenction Stopping flow...$")
        slave.tell("send 1 5 192.168.1.2")
        slave.expect(
            r"^INFO: PN: 5\n192.168.1.2\n\n\n+INFO: Flow finished!\nINFO: Flow length: 5\nINFO: Flow time: "
            r"\d+s \d+ns\nINFO: Average pps: \d+\.\d{6}\nINFO: Stopping flow"
        )
        until(lambda: master.counters(1)["rx"] == 5)


def test_zero_copy_slave_puts_a_header_in_front(socket_path: str) -> None:
    """Two of them: bare IP requests are answered by frames, made in the headroom."""
    words = example("icmp_responder_zero_copy_slave", "--socket", socket_path)
    with Program(words) as master, Program(words) as slave:
        master.tell("conn 0 1 1")
        until(lambda: Path(socket_path).exists())
        slave.tell("conn 0 0 0")
        for program in (master, slave):
            program.expect("connected!")
        master.tell("send 0 30 192.168.1.2")
        master.expect("Flow finished")
        until(lambda: slave.counters() == {"rx": 30, "tx": 30, "tx_err": 0})
        until(lambda: master.counters()["rx"] == 30)


def test_external_region_comes_and_goes(socket_path: str) -> None:
    with (
        Program(console("--socket", socket_path)) as master,
        Program(example("icmp_responder_eb", "--socket", socket_path)) as slave,
    ):
        master.tell("conn 0 1")
        until(lambda: Path(socket_path).exists())
        slave.tell("conn 0 0")
        size = slave.expect("^INFO: external region of ([0-9]+) bytes$")[1]
        assert int(size) >= 2 * 2048 * 2048
        for program in (master, slave):
            program.expect("connected!")
        slave.tell("show")
        first, second = r"\t\tindex: 0\n(?:\t\t\w+: \w+\n){3}", r"\t\tindex: 1\n\t\taddress: 0x[0-9a-f]+\n"
        slave.expect(rf"^\tregions:\n{first}{second}\t\tsize: {size}\n\t\tfd: [0-9]+\n\t\texternal\n\trx queues:$")
        master.tell("send 0 500 192.168.1.2 2:2:2:2:2:2")
        until(lambda: master.counters()["rx"] == 500)
        slave.tell("del 0")
        slave.expect(f"^INFO: external region of {size} bytes is free$")
        slave.tell("exit")
        slave.ended()


def pings(interface: memif.Interface, ip: str, size: int, count: int) -> set[bytes]:
    """Send echo requests with `size` random bytes, as many at once as fit into the ring; the data that came back.

    Never more than that: a responder drops answers for which there is no room.
    """
    source = random.Random(size)
    header = echo_requests(bytes((192, 168, 1, 1)), b"kernel", bytes(map(int, ip.split("."))), b"aaaaaa")
    left = [source.randbytes(size) for _ in range(count)]
    back: set[bytes] = set()
    deadline = time.monotonic() + within(PATIENCE)
    while len(back) < count and time.monotonic() < deadline:
        more = IN_FLIGHT - (count - len(left) - len(back))
        # Length and checksum of the requests are wrong: a responder has no reason to care.
        del left[: interface.tx[0].send([header(0) + data for data in left[:more]])]
        with interface.rx[0].recv(256, timeout=0.05) as burst:
            back |= {bytes(packet[42:]) for packet in burst if packet[34] == 0}
    return back


@pytest.mark.parametrize(("name", "role"), [row for row in RESPONDERS if row[0] not in TWO_QUEUES])
@pytest.mark.parametrize(("size", "buffer"), [(1400, 256), (9000, 2048)])
def test_answers_chains(name: str, role: str, size: int, buffer: int, socket_path: str) -> None:
    """Packets that are larger than buffers, more than the ring holds at once."""
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(Program(responder(name, role, socket_path)))
        if role == "slave":
            iface = stack.enter_context(memif.listen(socket_path, id=0))
            begin(program, name, role)
        else:
            begin(program, name, role)
            iface = stack.enter_context(memif.connect(socket_path, id=0, buffer_size=buffer, timeout=PATIENCE))
        iface.wait_up(PATIENCE)
        assert len(pings(iface, "192.168.1.2", size, 400)) == 400


# -- those of 4.0


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """Words that give a program a network namespace of its own, and so abstract names; none if that is denied."""
    words = ["unshare", "--map-root-user", "--net"]
    try:
        denied = subprocess.run([*words, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return []
    return [] if denied else words


@pytest.mark.parametrize("arguments", [[], ["-r"]])
def test_loopback(arguments: list[str], alone: list[str]) -> None:
    """Its abstract socket has a fixed name; somebody else may be testing, too."""
    with Program([*alone, *example("loopback", *arguments)]) as program:
        output = program.ended()
    assert output.count("INFO: memif connected!\nMEMIF DETAILS\n") == 2
    end = "INFO: Received correct data.\nINFO: Stopping the program\n"
    assert output.endswith(end + "INFO: memif disconnected!\n" * 2)


@pytest.mark.parametrize(
    ("name", "letter", "options"),
    [
        ("icmp_responder_4_0", "-?", "rsbhiamv?"),
        ("loopback", "-?", "rv?"),
        ("test_app", "-h", "rsitbvh"),
    ],
)
def test_help_and_version(name: str, letter: str, options: str) -> None:
    with Program(example(name, letter)) as program:
        text = program.ended()
    assert sorted(line[2] for line in text.splitlines() if line.startswith("\t-")) == sorted(options)
    with Program(example(name, "-v")) as program:
        assert program.ended() == "libmemif version: 4.0\nmemif version: 2.0\n"


@pytest.mark.parametrize("arguments", [["-r", "boss"], ["-x"], ["-i", "one"], ["-a", "1.2.3"], ["more"], ["-b"]])
def test_wrong_options(arguments: list[str]) -> None:
    with Program(example("icmp_responder_4_0", *arguments)) as program:
        output = program.ended(1)
    assert output.startswith("icmp_responder: ")
    assert "Traceback" not in output


def test_responder_of_4_0_ends_with_its_link(socket_path: str) -> None:
    with (
        Program(console("--socket", socket_path)) as master,
        Program(example("icmp_responder_4_0", "-s", socket_path, "-i", "6", "-a", "10.0.0.9", "-b", "1024")) as slave,
    ):
        master.tell("conn 6 1")
        shown = slave.expect(r"(?s)MEMIF DETAILS\n.*link: up\n")[0]
        assert "\tinterface ip: 10.0.0.9\n" in shown
        assert shown.count("buffer size: 1024\n") == 2
        master.expect("connected!")
        master.tell("send 6 8 10.0.0.9 2:2:2:2:2:2")
        until(lambda: master.counters(6)["rx"] == 8)
        master.tell("del 6")
        assert slave.ended().endswith("INFO: memif disconnected!\n")


def test_app_joins_a_console_and_a_responder(socket_path: str) -> None:
    """test_app as slave between two interfaces of one console: what 0 sends arrives at 1, and is answered back."""
    with (
        Program(console("--socket", socket_path)) as master,
        Program(example("test_app", "-s", socket_path, "-i", "0", "-t", "1")) as app,
    ):
        master.tell("conn 0 1", "conn 1 1")
        for _ in range(2):
            app.expect("connected!")
            master.expect("connected!")
        master.tell("send 0 300 192.168.2.2 2:2:2:2:2:2")
        until(lambda: master.counters(0)["rx"] == 300)
        assert master.counters(1) == {"rx": 300, "tx": 300, "tx_err": 0}
        master.tell("exit")
        assert "Traceback" not in app.ended()


@pytest.mark.dpdk
@pytest.mark.parametrize("role", ["slave", "master"])
def test_app_loops_packets_of_testpmd(role: str, testpmd: Callable[..., Testpmd], socket_path: str) -> None:
    """testpmd's two ports forward to each other, and so does test_app: 32 packets go round and round."""
    theirs = "server" if role == "slave" else "client"
    second = f"net_memif1,role={theirs},id=1,socket={socket_path},socket-abstract=no"

    def peer() -> Testpmd:
        return testpmd(theirs, vdevs=[second], forward="io")

    with contextlib.ExitStack() as stack:
        if role == "slave":
            pmd = peer()
        program = stack.enter_context(Program(example("test_app", "-r", role, "-s", socket_path)))
        if role == "master":
            until(lambda: Path(socket_path).exists())
            pmd = peer()
        for _ in range(2):
            program.expect("connected!", 30)
        pmd.wait_link()
        pmd.wait_link()
        pmd.start(tx_first=1)
        assert pmd.wait_stats("ipackets", 200) >= 200
        pmd.stop()
        program.interrupt()
        assert "Traceback" not in program.ended()


def test_every_program_states_its_command_and_is_tested() -> None:
    files = {path.stem: path for path in EXAMPLES.glob("*.py") if path.stem not in ("common", "console")}
    assert files.keys() == {name for name, _ in RESPONDERS} | {"loopback", "test_app", "icmp_responder_mt_3_1"}
    for name, path in files.items():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert f"python examples/libmemif/{name}.py" in docstring, name
        assert f"`{name}.py`" in (EXAMPLES.parents[1] / "docs" / "guide.md").read_text(), name
