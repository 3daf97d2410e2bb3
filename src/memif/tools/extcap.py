"""``memif extcap``: Wireshark's interface to memif, whose options `memif.extcap` reads itself."""

import sys

import click


@click.command(
    "extcap", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Wireshark's interface to memif; --install makes it known to Wireshark."""
    from memif.extcap import main

    sys.exit(main(ctx.args))
