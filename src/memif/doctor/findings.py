"""What `memif.doctor` finds: the table of faults with what to do about each, and `Finding`."""

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "fault", "note", "skipped"]

#: Every fault: what it is, and what to do.
FAULTS: Final[dict[str, tuple[str, str]]] = {
    "name": ("What was given cannot name a socket.", "Give a path, or @name for an abstract socket."),
    "no-folder": ("The socket's directory does not exist.", "Start the master, or correct the path."),
    "no-socket": (
        "There is no such socket.",
        "Start the master first, or correct the path; `memif list` shows what there is.",
    ),
    "broken-link": (
        "The path is a symbolic link that leads nowhere.",
        "Correct the link, or start the master behind it.",
    ),
    "not-a-socket": ("The path is not a socket.", "Give the master another path, or remove the file."),
    "closed-folder": (
        "This user may not enter a directory of the path.",
        "Run as its owner or group, or open the directory.",
    ),
    "no-right": ("This user may not connect.", "Join the socket's group, or have the master set its mode and owner."),
    "stale": (
        "The file is left over from a program that has ended.",
        "Start the master again; for DPDK remove the file first.",
    ),
    "no-abstract": (
        "Nobody has this abstract name in this network namespace.",
        "Start the master, or run in its namespace (ip netns exec); a path has no @ in front.",
    ),
    "wrong-type": (
        "Somebody listens, but not for memif.",
        "Take the memif socket: VPP's api.sock and cli.sock are others.",
    ),
    "not-accepted": ("The listener does not accept its clients.", "Its program hangs or is stopped: look at it."),
    "stopped": ("The process that listens is stopped.", "Continue it (kill -CONT), or end the debugger."),
    "silent": ("The listener accepts and says nothing.", "Its program hangs, or is not memif."),
    "hangs-up": ("The listener hangs up at once.", "It turns this client away: look at its log."),
    "not-memif": ("What the listener says is not memif.", "Take the memif socket of that program."),
    "version": ("The listener speaks another version of memif.", "Both sides need memif 2.0."),
    "unknown-id": ("The master has no interface with this id.", "Use the same id at both ends."),
    "same-role": ("The other side is a slave, too.", "One of the two has to be the master."),
    "secret-missing": ("The master asks for a secret.", "Give it the same one (--secret-file)."),
    "secret-wrong": ("The secret is not the master's.", "Use the same one at both ends, at most 23 bytes."),
    "mode": ("The two sides have different modes.", "Use ethernet or ip at both ends."),
    "taken": ("The interface has its client already.", "Each id has one client: use another, or end the first."),
    "refused": ("The master refused.", "Its words say why; look at its log, too."),
    "no-link": ("The link does not come up.", "The master stops answering in the middle: look at its log."),
    "takes-nothing": (
        "The link is up, and the master takes no packet.",
        "Set its interface up (VPP: set interface state NAME up), or start forwarding (testpmd: start).",
    ),
    "not-emptied": (
        "Packets wait in a ring, and the master does not take them.",
        "Look at the master: it is down, busy or stopped.",
    ),
    "not-refilled": (
        "The slave gives no buffers back, so nothing can be sent to it.",
        "Look at the slave: it does not receive, or keeps its bursts.",
    ),
    "no-buffers": (
        "The slave has never offered a buffer, so nothing can be sent to it.",
        "A zero-copy slave of VPP needs rings of 64 slots or more, or no-zero-copy.",
    ),
    "indices": (
        "The indices of a ring are impossible.",
        "One side has overwritten shared memory: restart both, report it.",
    ),
    "descriptor": ("A descriptor points outside of its memory.", "The side that wrote it is broken: report it."),
    "overrun": (
        "The master writes packets that are longer than the slave's buffers, over what lies behind them.",
        "Make the slave's buffer_size at least DPDK's bsize.",
    ),
    "vpp-unreachable": (
        "VPP's API does not answer.",
        "Start VPP with `socksvr { default }`; root or VPP's group may connect.",
    ),
    "vpp-no-socket": ("VPP does not know this socket.", "create memif socket id N filename PATH, or `memif vpp up`."),
    "vpp-no-memif": ("VPP has no memif with this id on the socket.", "create interface memif id N socket-id N master."),
    "vpp-down": ("VPP's end is administratively down.", "set interface state NAME up."),
    "vpp-slave": (
        "VPP is the slave on this socket, and nobody listens.",
        "Be the master here (memif.listen, --role master), or make VPP the master.",
    ),
    "vpp-refused": (
        "VPP's last connection was refused.",
        "The reasons are those of `show memif`: secret, id, mode, ring size.",
    ),
    "vpp-errors": (
        "VPP counts errors at this interface.",
        "no free tx slots: receive faster, or larger rings. `clear errors`.",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was looked at.
        state: "ok"; "fault"; "note" for what is worth knowing; "skipped" with the reason.
        text: What was found.
        fault: Name of the fault in `FAULTS`; "" for none.
        advice: What to do about it.
    """

    check: str
    state: State
    text: str
    fault: str = ""
    advice: str = ""


def fault(check: str, name: str, detail: str = "") -> Finding:
    """Return the finding for a fault; `detail` says more than the table."""
    text, advice = FAULTS[name]
    return Finding(check, "fault", f"{text} {detail}".strip(), name, advice)
