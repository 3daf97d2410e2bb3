"""``memif replay``: send the packets of capture files, in the manner of tcpreplay."""

import os
import stat
import sys
from typing import Any

import click

from memif.tools.linking import Waiting, come_up
from memif.tools.options import (
    LinkOptions,
    complete_file,
    duration_option,
    examples,
    interval_option,
    json_option,
    link_options,
    timeout_option,
)
from memif.tools.terminal import Status, Stop, fail, print_json
from memif.tools.transfer import drain
from memif.tools.values import Count, Rate, seconds, si
from memif.tools.verb import Verb


@click.command(
    "replay",
    cls=Verb,
    epilog=examples(
        "replay trace.pcapng",
        "replay --multiplier 10 --maxsleep 1000 trace.pcap.gz",
        "replay --topspeed --loop 100 one.pcap two.pcap",
    )
    + "\n  tcpdump -i eth0 -U -w - | memif replay --topspeed -",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_file)
@click.option(
    "-x",
    "--multiplier",
    "speed",
    type=click.FloatRange(0, min_open=True),
    metavar="FACTOR",
    help="So many times as fast as recorded.",
)
@click.option("-p", "--pps", type=click.FloatRange(0, min_open=True), metavar="RATE", help="Packets a second.")
@click.option(
    "-M", "--mbps", type=click.FloatRange(0, min_open=True), metavar="RATE", help="Megabits a second (0.5, 1000)."
)
@click.option("-t", "--topspeed", "top_speed", is_flag=True, help="As fast as the peer takes them.")
@click.option(
    "--maxsleep",
    "max_gap",
    type=click.FloatRange(0),
    metavar="MS",
    help="Milliseconds to wait for the next packet, at most (default: as recorded).",
)
@click.option("-l", "--loop", type=Count(), default=1, show_default=True, help="Play the files so often (0: for ever).")
@click.option("-L", "--limit", type=Count(), default=0, help="End after so many packets (0: never).")
@duration_option
@interval_option
@timeout_option
@json_option
@link_options()
def command(
    link: LinkOptions,
    as_json: bool,
    files: tuple[str, ...],
    timeout: float,
    interval: float,
    speed: float | None,
    pps: float | None,
    mbps: float | None,
    top_speed: bool,
    max_gap: float | None,
    loop: int,
    limit: int,
    duration: float | None,
) -> None:
    """Send the packets of each FILE, pcap or pcapng (- for standard input), with the times between them as recorded.

    Options are those of tcpreplay. Compressed files are read as they are. Of a pipe each packet is sent as it comes,
    unless --loop needs all of them. Packets without a time go with the one before them. Packets of another link type
    than the interface's mode are passed over. The ring being full delays the rest; nothing is dropped. When the peer
    goes, waits --timeout for it to come back.
    """
    from memif.tools.feed import LivePlayer
    from memif.tools.player import CHUNK, Player, Replay

    if (given := sum(option not in (None, False) for option in (speed, pps, mbps, top_speed))) > 1:
        raise click.UsageError(f"only one of --multiplier, --pps, --mbps and --topspeed can be given, not {given}")
    rate = Rate(pps, False) if pps else Rate(1e6 * mbps, True) if mbps else None
    factor = None if top_speed or rate is not None else speed or 1.0
    gap = None if max_gap is None else max_gap / 1000
    players = [(LivePlayer if loop == 1 and _is_pipe(file) else Player)(file, link.mode, factor, gap) for file in files]
    for i, player in enumerate(players):
        player.load() if not i or loop != 1 or isinstance(player, LivePlayer) else player.check()
    if loop != 1 and any(player.path == "-" and player.more for player in players):
        raise click.UsageError(f"standard input is too long to loop: more than {CHUNK} packets")
    known = loop and all(player.packets and not player.more for player in players)
    total = limit or (sum(len(player.packets) for player in players) * loop if known else None)
    error = None
    with link.open("replay") as interface, Stop(duration) as stop:
        with stop.paused():
            come_up(interface, timeout, waiting := Waiting(interface))
        with Status("replay", 0 if as_json else interval, total=total) as status:
            replay = Replay(interface, stop, status, waiting, timeout, rate, limit)
            replay.begin()
            turns = 0
            while not replay.ended and error is None and (turns < loop or not loop):
                turns += 1
                for player in players:
                    if not replay.ended and error is None:
                        error = player.play(replay)
                        if loop == 1:
                            player.packets = []  # of a long file, a lot of memory
        result = replay.result() | {
            "passed_over": sum(player.passed_over for player in players),
            "cut": sum(player.cut for player in players),
            "truncated_file": any(player.truncated for player in players),
        }
        drain(interface)
    print_json(result) if as_json else report(result)
    for player in players:
        if player.truncated:
            fail(f"{player.path}: ends in the middle of a packet; those before it were sent")
    if error is not None:
        raise error
    if result["truncated_file"]:
        sys.exit(1)


def _is_pipe(path: str) -> bool:
    """Whether `path` ("-": standard input) is a pipe, a FIFO or a socket, whose end may be far off."""
    try:
        mode = (os.fstat(0) if path == "-" else os.stat(path)).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def report(result: dict[str, Any]) -> None:
    """Print the result for people."""
    click.echo(f"{result['packets']} packets, {si(result['bytes'], 'B')} sent in {seconds(result['seconds'])}")
    click.echo(f"  {si(result['pps'], 'pps')}, {si(result['bps'], 'bit/s')}")
    if result["passed_over"]:
        click.echo(f"  {result['passed_over']} passed over: empty, too long, or of another link type")
    if result["cut"]:
        click.echo(f"  {result['cut']} were cut by the capture's snap length and sent as they are")
