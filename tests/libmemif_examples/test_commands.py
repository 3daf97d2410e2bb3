"""The console's commands, line by line: messages, ranges, and that no line at all brings it down."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from memif.console import Console
from memif.console.commands import parse_ip
from memif.console.loop import Completer
from memif.icmp import parse_mac

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bench(socket_path: str, capsys: Capture) -> Iterator[Console]:
    """A console without an event loop: nothing connects."""
    it = Console(socket_path)
    assert it.open(None) == 0
    yield it
    it.close()


#: Lines, and the last one's message.
MESSAGES = [
    ("", ""),
    ("   ", ""),
    ("frobnicate now", "unknown command: frobnicate"),
    ("con 0 0", "unknown command: con"),
    ("conn", "expected id"),
    ("conn x", "expected id"),
    ("conn 0", "expected mode <0|1>"),
    ("conn 0 x", "expected mode <0|1>"),
    ("conn 50 0", "connection array overflow"),
    ("conn 99999999999999999999999 0", "connection array overflow"),
    ("conn -1 0", "don't even try..."),
    ("conn 0 0 2", "Unknown interrupt descriptor"),
    ("conn 0 0", ""),
    ("connect 49 0 1", ""),
    ("conn   0    0", ""),
    ("conn 0 0\nconn 0 0", "memif_create: Memif connection handle points to existing connection"),
    ("del", "expected id"),
    ("del 50", "connection array overflow"),
    ("del -7", "don't even try..."),
    ("del 3", "memif_delete: Memif connection handle does not point to existing conenction"),
    ("conn 3 0\ndelete 3", ""),
    ("ip-set", "expected id"),
    ("ip-set 1 1.2.3.4", "no connection at index 1"),
    ("ip-set 50 1.2.3.4", "connection array overflow"),
    ("conn 1 0\nip-set 1", "invalid ip address"),
    ("conn 1 0\nip-set 1 1.2.3", "invalid ip address"),
    ("conn 1 0\nip-set 1 1.2.3.256", "invalid ip address"),
    ("conn 1 0\nip-set 1 10.0.0.7", "memif 1 ip address set to 10.0.0.7"),
    ("rx-mode", "expected id"),
    ("rx-mode 0", "expected qid"),
    ("rx-mode 0 0 polling", "no connection at index 0"),
    ("conn 0 0\nrx-mode 0 0", "expected rx mode <interrupt|polling>"),
    ("conn 0 0\nrx-mode 0 0 sometimes", "expected rx mode <interrupt|polling>"),
    ("conn 0 0\nrx-mode 0 0 polling", "memif_set_rx_mode: Interface is disconnected."),
    ("cl-count", ""),
    ("send", "expected id"),
    ("send 0", "expected count"),
    ("send 7 1 1.2.3.4 2:2:2:2:2:2", "No connection at index 7. Thread exiting..."),
    ("x" * 256, "line of more than 255 characters"),
]


def test_messages(socket_path: str, capsys: Capture) -> None:
    # One test for all, since the leak check after each costs more than the test itself.
    for lines, said in MESSAGES:
        it = Console(socket_path)
        assert it.open(None) == 0
        try:
            assert all(it.run_line(line) for line in lines.split("\n"))
            assert capsys.readouterr().out == (f"INFO: {said}\n" if said else ""), lines
        finally:
            it.close()


def test_send_wants_addresses(bench: Console, capsys: Capture) -> None:
    assert bench.run_line("conn 0 0")
    for arguments in ("", "1.2.3.4", "1.2.3 2:2:2:2:2:2", "1.2.3.4 2:2:2:2:2", "1.2.3.4 g:2:2:2:2:2"):
        ip, mac = (*arguments.split(" "), "")[:2]
        assert bench.run_line(f"send 0 5 {arguments}")
        assert capsys.readouterr().out == f"INFO: PN: 5\n{ip}\n{mac}\nINFO: Invalid input\n"


def test_send_while_down(bench: Console, capsys: Capture) -> None:
    assert bench.run_line("conn 0 0")
    assert bench.run_line("send 0 5 1.2.3.4 2:2:2:2:2:2")
    bench.senders[0].join(5)
    assert capsys.readouterr().out == (
        "INFO: PN: 5\n1.2.3.4\n2:2:2:2:2:2\nINFO: memif_buffer_alloc: Interface is disconnected. Thread exiting...\n"
    )


def test_exit_is_the_only_end(bench: Console) -> None:
    assert not bench.run_line("exit")
    assert not bench.run_line("exit now please")
    assert not bench.run_line("exiting")
    assert bench.run_line("exi")


def test_all_slots(bench: Console, capsys: Capture) -> None:
    for index in range(50):
        assert bench.run_line(f"conn {index} {index % 2}")
    assert capsys.readouterr().out == ""
    assert bench.run_line("sh-count")
    counts = capsys.readouterr().out
    assert counts.count("=" * 31 + "\ninterface index: ") == 50
    assert counts.startswith("=" * 31 + "\ninterface index: 0\n\trx: 0\n\ttx: 0\n\ttx_err: 0\n\tts: 0s 0ns\n")
    assert bench.run_line("show")
    shown = capsys.readouterr().out
    assert shown.count("\tlink: down\n") == 50
    for index in (0, 9, 49):
        assert f"interface index: {index}\n\tinterface ip: 192.168.{index + 1}.2\n" in shown


def test_show_and_counters_without_connection(bench: Console, capsys: Capture) -> None:
    assert bench.run_line("show")
    assert bench.run_line("sh-count")
    assert capsys.readouterr().out == "MEMIF DETAILS\n" + "=" * 30 + "\n"


def test_show_of_a_slave_that_waits(bench: Console, capsys: Capture, socket_path: str) -> None:
    assert bench.run_line("conn 4 0")
    assert bench.run_line("show")
    assert capsys.readouterr().out.splitlines()[2:16] == [
        "interface index: 4",
        "\tinterface ip: 192.168.5.2",
        "\tinterface name: memif_connection",
        "\tapp name: ICMP_Responder",
        "\tremote interface name: ",
        "\tremote app name: ",
        "\tid: 4",
        "\tsecret: (null)",
        "\trole: slave",
        "\tmode: ethernet",
        f"\tsocket filename: {socket_path}",
        "\trx queues:",
        "\ttx queues:",
        "\tlink: down",
    ]


def test_master_without_a_directory(capsys: Capture) -> None:
    it = Console("/nonexistent/directory/m.sock")
    assert it.open(None) == 0
    try:
        assert it.run_line("conn 0 1")
        assert capsys.readouterr().out == "INFO: memif_create: Socket file does not exist\n"
        assert it.connections == {}
    finally:
        it.close()


_WORDS = st.sampled_from(
    [
        "conn",
        "del",
        "show",
        "ip-set",
        "rx-mode",
        "sh-count",
        "cl-count",
        "send",
        "help",
        "0",
        "1",
        "2",
        "49",
        "50",
        "-1",
        "polling",
        "interrupt",
        "192.168.1.1",
        "1.2.3.4.5",
        "aa:aa:aa:aa:aa:aa",
        "999999999999999999999",
        "٣",
        "",
        "%s%n",
    ]
)
_LINES = st.one_of(st.lists(_WORDS, max_size=6).map(" ".join), st.text(max_size=300))


@given(lines=st.lists(_LINES, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_survives_any_line(lines: list[str], socket_path: str, capsys: Capture) -> None:
    it = Console(socket_path)
    assert it.open(None) == 0
    try:
        for line in lines:
            assert it.run_line(line) or line.split()[0].startswith("exit")
        capsys.readouterr()
        assert it.run_line("show")
        assert capsys.readouterr().out.startswith("MEMIF DETAILS\n" + "=" * 30 + "\n")
    finally:
        it.close()


@given(st.text(max_size=30))
def test_addresses_are_strict(text: str) -> None:
    for parse, size in ((parse_ip, 4), (parse_mac, 6)):
        raw = parse(text)
        assert raw is None or len(raw) == size


def test_addresses() -> None:
    assert parse_ip("255.0.1.10") == bytes((255, 0, 1, 10))
    assert parse_mac("2:FE:0:00:a:ff") == bytes((2, 0xFE, 0, 0, 10, 255))
    for wrong in ("1.2.3", "1.2.3.4.5", "1.2.3.-4", "1.2.3.+4", "1.2.3.٤", "1.2.3.0004", " 1.2.3.4"):
        assert parse_ip(wrong) is None


COMPLETIONS = {
    "co": ["conn "],
    "s": ["show ", "sh-count ", "send "],
    "x": [],
    "del ": ["3 ", "7 "],
    "del 7": ["7 "],
    "rx-mode 3 0 p": ["polling "],
    "rx-mode 3 0 ": ["polling ", "interrupt "],
    "conn ": [],
    "foo ": [],
}


def test_completion(bench: Console) -> None:
    assert bench.run_line("conn 7 0")
    assert bench.run_line("conn 3 0")
    for line, words in COMPLETIONS.items():
        word = line[line.rfind(" ") + 1 :]
        complete = Completer(bench, lambda: (line, len(line) - len(word)))  # noqa: B023
        assert complete.candidates(word) == words
        assert [complete(word, n) for n in range(len(words) + 1)] == [*words, None]
