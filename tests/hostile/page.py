"""The tables of docs/security-evidence.md, from `memif.testing.CASES` and from the list of other tests below.

python tests/hostile/page.py        # writes them into the page
"""

import re
from pathlib import Path

from memif.testing import CASES, Case, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "security-evidence.md"

_OFFERS = ("ring-", "region", "memory-", "rings-", "only-", "one-eventfd", "init-with", "fd-")
_ELSEWHERE = ("slave-", "crowd", "up-and")

#: Sections of the table of cases: title, and which cases belong to it.
SECTIONS = (
    ("A client's messages", lambda case: case.role == "slave" and not case.name.startswith((*_OFFERS, *_ELSEWHERE))),
    ("A client's descriptors, regions and rings", lambda case: case.role == "slave" and case.name.startswith(_OFFERS)),
    ("Crowds", lambda case: case.name.startswith(("crowd", "up-and"))),
    (
        "A server's messages, and what it does to the client's memory",
        lambda case: case.role == "master" and not _of_rings(case),
    ),
    ("Rings: a hostile client", lambda case: case.name.startswith("slave-")),
    ("Rings: a hostile server", lambda case: case.role == "master" and _of_rings(case)),
)


def _of_rings(case: Case) -> bool:
    return f"slave-{case.name.removeprefix('master-')}" in CASES or case.name == "master-invents-buffers"


#: What else was promised, and the test that shows it: (what happens, what comes of it, file, test).
OTHERS = (
    (
        "event fd made blocking and full",
        "the sending thread waits, without the interpreter lock; a signal, or the end "
        "of the link from another thread, frees it",
        "tests/hostile/test_limits.py",
        "test_a_blocking_event_fd",
    ),
    (
        "a flood of invalid descriptors",
        "`recv` keeps its timeout, Ctrl-C is answered",
        "tests/faults/test_signals.py",
        "test_ctrl_c_under_a_flood_of_rubbish",
    ),
    (
        "memory that cannot be sealed is truncated",
        'the process dies of SIGBUS; `seal="require"` refuses such memory',
        "tests/hostile/test_limits.py",
        "test_what_the_default_risks",
    ),
    (
        "all cases, many times over",
        "memory, descriptors and threads stay flat",
        "tests/hostile/test_limits.py",
        "test_nothing_piles_up",
    ),
    (
        "255 rings of 16 384 slots each way, the last one wrong",
        "refused; no descriptor, mapping or memory stays",
        "tests/hostile/test_late_refusal.py",
        "test_refused_at_its_end",
    ),
    (
        "a file on FUSE that never answers, as a descriptor of any message",
        "nothing waits for it: the socket serves others, Ctrl-C works, `close` returns",
        "tests/hostile/test_silent_file.py",
        "test_nothing_waits_for_it",
    ),
    (
        "handshakes against each other: any order, losses, duplicates, deaths",
        "both ends up or both closed, every descriptor closed once",
        "tests/fuzz/test_machines.py",
        "TestHandshakes",
    ),
    (
        "any bytes as messages, handshakes, captures and shared memory",
        "no crash, no access outside the memory",
        "tests/fuzz/test_corpus.py",
        "test_replay",
    ),
    (
        "kill -9 of the peer at each message of the handshake",
        "nothing leaks, the next peer is served",
        "tests/faults/test_kill.py",
        "test_killed_in_the_handshake",
    ),
    (
        "kill -9 of the peer under load",
        "`MemifDisconnectedError`, then the next link",
        "tests/faults/test_kill.py",
        "test_killed_under_load",
    ),
    (
        "1000 reconnects in a row, against ourselves",
        "memory and descriptors flat",
        "tests/faults/test_reconnect.py",
        "test_a_thousand_reconnects_against_ourselves",
    ),
    (
        "1000 reconnects in a row, against DPDK's testpmd",
        "memory and descriptors flat",
        "tests/faults/test_reconnect.py",
        "test_reconnects_against_testpmd",
    ),
    (
        "no descriptors left for clients",
        "their connections are closed; links stay up",
        "tests/faults/test_limits.py",
        "test_no_descriptors_for_clients",
    ),
    (
        "no descriptors left for what a client sends",
        "refused: malformed message received",
        "tests/faults/test_limits.py",
        "test_no_descriptors_for_what_a_client_sends",
    ),
    (
        "no address space for a region",
        "refused with the reason",
        "tests/faults/test_limits.py",
        "test_no_address_space_for_a_region",
    ),
    (
        "memory that cannot grow, no space",
        "the attempt fails with the reason",
        "tests/faults/test_limits.py",
        "test_memory_that_can_not_grow",
    ),
    (
        "Ctrl-C in every blocking call, in every receive mode",
        "answered within 100 ms",
        "tests/faults/test_signals.py",
        "test_ctrl_c",
    ),
    ("a signal every millisecond", "no effect", "tests/faults/test_signals.py", "test_eintr_everywhere"),
    (
        "fork while connected",
        "the child is refused; its copies of the memory are zeros of its own",
        "tests/faults/test_fork.py",
        "test_the_child_is_refused",
    ),
    ("a wall clock that jumps by years", "no effect", "tests/faults/test_clock.py", "test_a_wall_clock_that_jumps"),
    (
        "a peer that stops for a while",
        "no call waits beyond its timeout; nothing is lost",
        "tests/faults/test_slow.py",
        "test_a_peer_that_stops_and_goes_on",
    ),
    (
        "a handshake kept open by a trickle of messages",
        "handshake timed out",
        "tests/faults/test_slow.py",
        "test_a_trickle_does_not_extend_the_deadline",
    ),
    ("wrong use of any object, from Python", "an exception", "tests/misuse/test_objects.py", "test_misuse"),
    (
        "every public object made by hand, closed, without its link, in threads, finalizers, callbacks, at exit",
        "a result or an exception; the peer's memory untouched",
        "tests/misuse/test_table.py",
        "test_misuse",
    ),
    (
        "collections, trace functions and failing allocations in the middle of calls",
        "the same",
        "tests/misuse/test_interruptions.py",
        "test_interruption",
    ),
    ("random sequences of calls over all objects", "the same", "tests/misuse/test_random.py", "test_random_sequences"),
    (
        "the interpreter ends while connected",
        "it ends",
        "tests/misuse/test_interpreter.py",
        "test_exit_while_connected",
    ),
    ("subinterpreters", "an ImportError", "tests/misuse/test_interpreter.py", "test_subinterpreters"),
)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _result(case: Case) -> str:
    if case.outcome in (Outcome.REFUSED, Outcome.DISCONNECTED):
        reason = re.sub(r"\\(.)", r"\1", case.reason).replace("d+", "…")
        return f"{case.outcome.value}: {_cell(reason)}"
    return f"{case.outcome.value}: `{case.counter}`" if case.counter else case.outcome.value


def cases_table() -> str:
    """One table a section."""
    parts = []
    for title, belongs in SECTIONS:
        rows = [
            f"| {_cell(case.about)}{_options(case)} | {_result(case)} | `{case.name}` |"
            for case in CASES.values()
            if belongs(case)
        ]
        head = ["| The peer … | Outcome | Test |", "|---|---|---|"]
        parts.append("\n".join([f"### {title}", "", *head, *rows]))
    return "\n\n".join(parts)


def _options(case: Case) -> str:
    shown = [f"`{key}={value!r}`" for key, value in case.options.items() if key not in ("secret", "authorize")]
    return f" ({', '.join(shown)})" if shown else ""


def others_table() -> str:
    """The rest."""
    rows = [f"| {what} | {outcome} | `{path}::{test}` |" for what, outcome, path, test in OTHERS]
    return "\n".join(["| What happens | Outcome | Test |", "|---|---|---|", *rows])


def filled(page: str) -> str:
    """The page with both tables renewed."""
    for name, table in (("cases", cases_table()), ("others", others_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
