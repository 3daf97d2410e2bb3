"""``memif console`` from outside: on a pipe, on a terminal, and two of them talking to each other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from libmemif_examples.programs import Program, console, example, two_consoles, until

BANNER = [
    "LIBMEMIF EXAMPLE APP: ICMP_Responder",
    "=" * 30,
    "libmemif version: 2.0",
    "memif version: 512",
    "commands:",
    "\thelp",
    "\texit",
    "\tconn <index> <mode> [<interrupt-desc>]",
    "\tdel  <index>",
    "\tshow",
    "\tip-set <index> <ip-addr>",
    "\trx-mode <index> <qid> <polling|interrupt>",
    "\tsh-count",
    "\tcl-count",
    "\tsend <index> <tx> <ip> <mac>",
]


@pytest.fixture
def terminal(tmp_path: Path, socket_path: str) -> Iterator[Program]:
    """A console on a pseudo-terminal."""
    words = console("--socket", socket_path, "--history", str(tmp_path / "history"))
    with Program(words, terminal=True, home=tmp_path) as it:
        it.expect("^\tsend <index> <tx> <ip> <mac> - .*$")
        yield it


def test_banner_help_and_end_of_input(socket_path: str) -> None:
    with Program(console("--socket", socket_path)) as it:
        it.tell("help")
        it.end_of_input()
        lines = it.ended().splitlines()
    assert [line.partition(" - ")[0] for line in lines] == BANNER * 2
    assert all(" - " in line for line in lines if line.startswith("\t"))


@pytest.mark.parametrize("text", [b"", b"show", b"\n\n  \n", b"\x00\xff\n" * 40, b"x" * 100_000, b"help\nexit\nshow\n"])
def test_any_input_ends_well(text: bytes, socket_path: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(text)
    with Program(["sh", "-c", f'exec "$@" < {file}', "sh", *console("--socket", socket_path)]) as it:
        output = it.ended()
    assert "Traceback" not in output
    assert output.count("MEMIF DETAILS") == (text == b"show")  # not behind exit; the last line needs no end


def test_closed_input_is_the_end_of_it(socket_path: str) -> None:
    with Program(["sh", "-c", 'exec "$@" <&-', "sh", *console("--socket", socket_path)]) as it:
        assert "Traceback" not in it.ended()


def test_survives_rubbish_and_goes_on(socket_path: str) -> None:
    with Program(console("--socket", socket_path)) as it:
        it.type(bytes(range(256)) * 20 + b"\n")
        it.tell("conn 0 0", "y" * 5000, "show")
        it.expect("^INFO: line of more than 255 characters$")
        it.expect("^interface index: 0$")
        it.tell("exit")
        it.ended()


SHOWN = r"""MEMIF DETAILS
==============================
interface index: 0
\tinterface ip: 192\.168\.1\.2
\tinterface name: memif_connection
\tapp name: ICMP_Responder
\tremote interface name: memif_connection
\tremote app name: ICMP_Responder
\tid: 0
\tsecret: \(null\)
\trole: {role}
\tmode: ethernet
\tsocket filename: {path}
\trx queues:
\t\tqueue id: 0
\t\tring size: 2048
\t\tring rx mode: interrupt
\t\tring head: {rx[0]}
\t\tring tail: {rx[1]}
\t\tbuffer size: 2048
\ttx queues:
\t\tqueue id: 0
\t\tring size: 2048
\t\tring rx mode: interrupt
\t\tring head: {tx[0]}
\t\tring tail: {tx[1]}
\t\tbuffer size: 2048
\tlink: up
"""


def test_show_label_by_label(socket_path: str) -> None:
    with two_consoles(socket_path) as (master, slave):
        # The slave first: when it answers it has handed out its buffers, which the master then sees.
        sides = ((slave, "slave", (2048, 0), (0, 0)), (master, "master", (0, 0), (2048, 0)))
        for program, role, rx, tx in sides:
            program.tell("show")
            program.expect(SHOWN.format(role=role, path=re.escape(socket_path), rx=rx, tx=tx))
        slave.tell("send 0 5 192.168.1.2 61:61:61:61:61:61")
        slave.expect("INFO: Thread exiting")
        until(lambda: slave.counters()["rx"] == 5)
        # Indices are counters: five more than before, on both rings.
        sides = ((slave, "slave", (2053, 5), (5, 5)), (master, "master", (5, 5), (2053, 5)))
        for program, role, rx, tx in sides:
            program.tell("show")
            program.expect(SHOWN.format(role=role, path=re.escape(socket_path), rx=rx, tx=tx))
        slave.tell("del 0", "show")
        slave.expect("^INFO: memif disconnected!\nMEMIF DETAILS\n={30}\n")
        master.expect("^INFO: memif disconnected!$")
        master.tell("show")
        master.expect(
            "\tremote interface name: \n\tremote app name: \n(.*\n){4}\tsocket .*\n"
            "\trx queues:\n\ttx queues:\n\tlink: down\n"
        )
        slave.tell("conn 0 0")  # and again
        master.expect("^INFO: memif connected!$")


FIGURES = (
    r"^INFO: PN: {count}\n{ip}\n{mac}\n\n\n"
    r"INFO: Pakcet sequence finished!\nINFO: Seq len: {count}\nINFO: Seq time: \d+s \d+ns\n"
    r"INFO: Average pps: \d+\.\d{{6}}\nINFO: Thread exiting\.\.\.\n"
)


def test_two_consoles_ping_each_other(socket_path: str) -> None:
    with two_consoles(socket_path) as (master, slave):
        master.tell("ip-set 0 192.168.1.1")
        master.expect("^INFO: memif 0 ip address set to 192.168.1.1$")
        for sender, other, ip, count in ((slave, master, "192.168.1.1", 1000), (master, slave, "192.168.1.2", 700)):
            for program in (sender, other):
                program.tell("cl-count")
            sender.tell(f"send 0 {count} {ip} 61:61:61:61:61:61")
            sender.expect(FIGURES.format(count=count, ip=re.escape(ip), mac="61:61:61:61:61:61"))
            until(lambda: other.counters()["rx"] == count)  # noqa: B023
            answered = other.counters()
            assert answered["tx"] + answered["tx_err"] == count
            until(lambda: sender.counters()["rx"] == answered["tx"])  # noqa: B023
            assert sender.counters()["tx"] == count


def test_nothing_is_dropped_with_descriptor_0(socket_path: str) -> None:
    """The development performance test, with fewer packets than it is run with for its figures."""
    count = 40_000
    with two_consoles(socket_path, "conn 0 1 0", "conn 0 0 1") as (master, slave):
        slave.tell(f"send 0 {count} 192.168.1.1 aa:aa:aa:aa:aa:aa")
        slave.expect(FIGURES.format(count=count, ip="192.168.1.1", mac="aa:aa:aa:aa:aa:aa"))
        until(lambda: slave.counters()["rx"] == count)
        assert slave.counters() == {"rx": count, "tx": count, "tx_err": 0}
        assert master.counters() == {"rx": count, "tx": count, "tx_err": 0}
        slave.tell("sh-count")
        assert int(slave.expect(r"\tts: \d+s (\d+)ns\n")[1]) > 0
        slave.tell("cl-count")
        assert slave.counters() == {"rx": 0, "tx": 0, "tx_err": 0}


def test_arp_only_answers_no_echo(socket_path: str) -> None:
    with two_consoles(socket_path, "conn 0 1", "conn 0 0 1") as (master, slave):
        master.tell("send 0 10 192.168.1.2 61:61:61:61:61:61")
        master.expect("Thread exiting")
        until(lambda: slave.counters()["rx"] == 10)
        assert slave.counters()["tx"] == 0


@pytest.mark.parametrize("polled", [0, 1])
def test_rx_mode_polling(socket_path: str, polled: int) -> None:
    with two_consoles(socket_path) as consoles:
        other, it = consoles[1 - polled], consoles[polled]
        it.tell("rx-mode 0 0 polling", "rx-mode 0 7 polling", "show")
        it.expect("^INFO: memif_set_rx_mode: Invalid queue id$")
        it.expect("ring rx mode: polling")
        other.tell("send 0 50 192.168.1.2 2:2:2:2:2:2")
        until(lambda: it.counters()["rx"] == 50)
        it.tell("rx-mode 0 0 interrupt", "show")
        it.expect("rx queues:\n\t\tqueue id: 0\n\t\tring size: 2048\n\t\tring rx mode: interrupt")
        other.tell("send 0 50 192.168.1.2 2:2:2:2:2:2")
        until(lambda: it.counters()["rx"] == 100)


def test_sending_ends_with_the_link(socket_path: str) -> None:
    with two_consoles(socket_path, "conn 0 1 1", "conn 0 0 1") as (master, slave):
        slave.tell("send 0 1000000000 192.168.1.2 2:2:2:2:2:2", "send 0 5 192.168.1.2 2:2:2:2:2:2")
        slave.expect("^INFO: interface 0 is sending already$")
        master.tell("del 0")
        slave.expect("^INFO: memif disconnected!$|Interface is disconnected. Thread exiting")
        slave.expect("Thread exiting|memif disconnected!")
        slave.tell("send 0 1000000000 192.168.1.2 2:2:2:2:2:2", "exit")
        slave.ended()


def test_master_that_is_killed_and_comes_back(socket_path: str) -> None:
    with two_consoles(socket_path) as (master, slave):
        master.process.kill()
        slave.expect("^INFO: memif disconnected!$")
        slave.tell("show")
        slave.expect("\tlink: down\n")
        with Program(console("--socket", socket_path)) as next_one:
            next_one.tell("conn 0 1")
            slave.expect("^INFO: memif connected!$")
            slave.tell("send 0 3 192.168.1.2 2:2:2:2:2:2")
            until(lambda: next_one.counters()["rx"] == 3)


def test_epoll_example_is_the_same_program(socket_path: str) -> None:
    with Program(example("icmp_responder_epoll", "--socket", socket_path)) as it:
        it.tell("conn 0 1", "show", "exit")
        output = it.ended()
    assert [line.partition(" - ")[0] for line in output.splitlines()[: len(BANNER)]] == BANNER
    assert f"\tsocket filename: {socket_path}\n" in output


# -- on a terminal


def test_completion_editing_and_history(terminal: Program) -> None:
    terminal.type("con\t0 0\n")
    terminal.type("sho\x7f\x7f\x7fshow\n")  # rubbed out and typed again
    terminal.expect("^interface index: 0$")
    terminal.expect("\tlink: down")
    terminal.type("rx\t\t0 pol\t\n")
    terminal.expect("^INFO: memif_set_rx_mode: Interface is disconnected.$")
    terminal.type("\x1b[A\x1b[A\n")  # two lines back
    terminal.expect("^interface index: 0$")
    terminal.type("ip-set \t1.2.3.4\n")  # the only interface
    terminal.expect("^INFO: memif 0 ip address set to 1.2.3.4$")
    terminal.type("exit\n")
    terminal.ended()


def test_a_prompt_on_a_terminal(terminal: Program, socket_path: str) -> None:
    """It is there before each line, and again below what comes meanwhile; what was typed before stays typed."""
    terminal.expect("^memif> ")
    terminal.type("conn 0 1\n")
    terminal.expect("^memif> ")
    until(lambda: Path(socket_path).exists())
    terminal.type("sh")
    with Program(console("--socket", socket_path)) as slave:
        slave.tell("conn 0 0")
        terminal.expect("sh\nINFO: memif connected!\nmemif> ")
        slave.tell("exit")
        assert "memif> " not in slave.ended()  # none on a pipe
    terminal.expect("^INFO: memif disconnected!\nmemif> ")
    terminal.type("ow\n")
    terminal.expect("^interface index: 0$")
    terminal.expect("^memif> ")


def test_history_outlives_the_program(terminal: Program, tmp_path: Path, socket_path: str) -> None:
    terminal.type("conn 0 0\nip-set 0 10.9.8.7\n")
    terminal.expect("^INFO: memif 0 ip address set to 10.9.8.7$")
    terminal.end_of_input()
    terminal.ended()
    words = console("--socket", f"{socket_path}2", "--history", str(tmp_path / "history"))
    with Program(words, terminal=True, home=tmp_path) as again:
        again.expect("^\tsend .*$")
        again.type("conn 0 0\n\x1b[A\x1b[A\n")
        again.expect("^INFO: memif 0 ip address set to 10.9.8.7$")
        again.end_of_input()
        again.ended()


def test_end_of_input_and_ctrl_c(terminal: Program, socket_path: str, tmp_path: Path) -> None:
    terminal.type("conn 0 1\nshow\n")
    terminal.expect("\trole: master")
    terminal.insist(b"\x03")
    terminal.ended(130)
    assert not Path(socket_path).exists()


def test_links_on_a_terminal(terminal: Program, socket_path: str) -> None:
    terminal.type("conn 0 1 0\n")
    until(lambda: Path(socket_path).exists())
    with Program(console("--socket", socket_path)) as slave:
        slave.tell("conn 0 0")
        slave.expect("connected!")
        terminal.expect("^INFO: memif connected!$")
        slave.tell("send 0 20 192.168.1.1 2:2:2:2:2:2")
        until(lambda: slave.counters()["rx"] == 20)
        assert terminal.counters()["tx"] == 20
    terminal.expect("^INFO: memif disconnected!$")
    terminal.type("exit\n")
    terminal.ended()
