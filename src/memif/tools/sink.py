"""``memif sink``: receive, count and measure."""

import sys

import click

from memif.tools.intervals import Intervals
from memif.tools.options import LinkOptions, examples, iperf_options, json_option, link_options
from memif.tools.terminal import Stop, print_json
from memif.tools.values import Count
from memif.tools.verb import Verb


@click.command(
    "sink",
    cls=Verb,
    epilog=examples(
        "sink --role master --duration 10", "sink --count 1M --json", "sink --rx-mode polling --no-analyse"
    ),
)
@click.option("-k", "--count", type=Count(), default=0, help="End after so many packets (0: never).")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="End when nothing has come for so long, once packets have come.",
)
@click.option("--analyse/--no-analyse", default=True, help="Look at the packets' stamps (default), or only count.")
@click.option("--bidir", is_flag=True, help="Send each packet back, numbered anew: for memif send --bidir.")
@iperf_options
@json_option
@link_options()
def command(
    link: LinkOptions,
    as_json: bool,
    interval: float,
    count: int,
    duration: float | None,
    wait: float | None,
    analyse: bool,
    bidir: bool,
) -> None:
    """Receive packets and drop them: how many, how fast, and for those of memif send: lost, out of order, latency.

    A line for each interval and a result for each client, in the manner of iperf3. Jitter is that of RFC 3550. Waits
    for the link, through reconnects. Ends after --count, --duration, --wait or with Ctrl-C.
    """
    from memif.tools.clients import Sink
    from memif.tools.received import report

    sink = Sink(link.mode, Intervals(0 if as_json else interval), analyse=analyse, bidir=bidir, quiet=as_json)
    with Stop(duration) as stop, link.open("sink") as interface:
        sink.run(interface, stop, count, wait)
        result = sink.result(interface)
    if as_json:
        print_json(result)
    elif len(sink.clients) != 1:
        click.echo(f"{len(sink.clients)} peers together:" if sink.clients else "nobody came")
        report(result, bad=result["bad"])
    if not result["packets"]:
        sys.exit(1)
