"""``memif bench``: how fast memif is on this machine."""

import click

from memif.tools.options import print_json


@click.command("bench", epilog="Example: memif bench --quick --only 'burst 256'")
@click.option("--quick", is_flag=True, help="A choice of rows, under two minutes.")
@click.option("--only", default="", metavar="TEXT", help="Only rows with this in their title.")
@click.option("--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs a row, at least.")
@click.option("--seconds", type=click.FloatRange(0.05, 10), default=0.4, show_default=True, help="Length of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def command(quick: bool, only: str, runs: int, seconds: float, as_json: bool) -> None:
    """Measure rates and round-trip times between two processes, each on a core of its own.

    A run in which a process did not have its core is left out: on a busy machine rows come out empty, not wrong.
    """
    from rich.progress import track

    from memif.bench import measure, select
    from memif.bench.report import machine, rows, show

    chosen = select(quick=quick, only=only)
    outcomes = [
        measure(s, runs=runs, seconds=seconds) for s in track(chosen, "measuring", transient=True, disable=as_json)
    ]
    if as_json:
        print_json({"machine": machine(), "outcomes": [o.as_dict() for o in outcomes]})
    else:
        show(rows(outcomes), f"memif on {machine()['cpu']}, {machine()['cores']} cores")
