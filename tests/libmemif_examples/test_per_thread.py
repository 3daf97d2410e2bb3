"""icmp_responder_mt_3_1: threads with data bases of their own; and what icmp_responder prints when it starts."""

import contextlib
import time

import pytest

import memif
from libmemif_examples.programs import PATIENCE, Program, example
from memif.icmp import echo_requests
from patience import within


def echoes(interface: memif.Interface, ip: bytes, count: int) -> int:
    """Ping an address until so many answers have come. -> how many did."""
    request = echo_requests(bytes((*ip[:3], 1)), b"kernel", ip, b"aaaaaa")
    answers = sequence = 0
    deadline = time.monotonic() + within(PATIENCE)
    while answers < count and time.monotonic() < deadline:
        sequence += interface.tx[0].send([request(sequence)])
        with interface.rx[0].recv(64, timeout=0.1) as burst:
            answers += sum(bytes(packet[26:30]) == ip and packet[34] == 0 for packet in burst)
    return answers


@pytest.mark.parametrize(("threads", "interfaces"), [(1, 1), (2, 3), (4, 1)])
def test_each_thread_answers_on_its_own_socket(threads: int, interfaces: int, socket_path: str) -> None:
    prefix = socket_path.removesuffix(".sock")
    with contextlib.ExitStack() as stack:
        masters = [
            [socket.interface(id=i, role="master") for i in range(interfaces)]
            for socket in (stack.enter_context(memif.Socket(f"{prefix}{t}.sock")) for t in range(threads))
        ]
        words = example("icmp_responder_mt_3_1", "-t", str(threads), "-i", str(interfaces), "--socket", prefix)
        program = stack.enter_context(Program(words))
        program.expect("^exit - .*\nhelp - .*\nshow - .*\ncmd: ")
        for t, of_thread in enumerate(masters):
            for i, master in enumerate(of_thread):
                master.wait_up(within(PATIENCE))
                assert master.peer is not None
                assert master.peer.app_name == "ICMP_Responder_mt"
                assert echoes(master, bytes((192, 168, t + 1, 2 * i + 2)), 5) >= 5
        program.tell("show")
        blocks = [
            f"Thread {t} {prefix}{t}.sock\n" + "".join(f"\tMemif id {i}\n\tLink up\n" for i in range(interfaces))
            for t in range(threads)
        ]
        shown = f"{threads} Threads {interfaces} Memifs (per thread)\n{'=' * 33}\n" + "".join(blocks)
        program.expect("Threads.*\n(.*\n)*.*cmd: ")
        assert shown in program.output
        program.tell("help")
        program.expect("exit - Exits the application")
        program.tell("exit")
        assert "Traceback" not in program.ended()


@pytest.mark.parametrize("end", ["exit", "input", "interrupt"])
def test_it_ends_without_any_master(end: str, socket_path: str) -> None:
    with Program(example("icmp_responder_mt_3_1", "-t", "2", "--socket", socket_path)) as program:
        program.expect("cmd: ")
        program.tell("show")
        program.expect("Link down")
        if end == "exit":
            program.tell("exit")
        elif end == "input":
            program.end_of_input()
        else:
            program.interrupt()
        assert "Traceback" not in program.ended()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["-t", "0"], "threads < 1"), (["-i", "0"], "if_num < 1"), (["--threads", "255"], "threads > 254")],
)
def test_numbers_are_checked(arguments: list[str], says: str) -> None:
    with Program(example("icmp_responder_mt_3_1", *arguments)) as program:
        assert program.ended(1) == f"{says}\n"


def test_icmp_responder_says_what_it_is(socket_path: str) -> None:
    with Program(example("icmp_responder", "--socket", socket_path, "1")) as program:
        program.expect("^\tuse CTRL\\+C to exit$")
        assert program.output.splitlines() == [
            "INFO: tx qid: 1",
            "LIBMEMIF EXAMPLE APP: ICMP_Responder",
            "=" * 30,
            "libmemif version: 4.0",
            "memif version: 512",
            "\tuse CTRL+C to exit",
        ]
        program.interrupt()
        program.ended()
