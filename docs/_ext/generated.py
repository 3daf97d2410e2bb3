"""Parts of the reference that are read out of the package while the documentation is built.

========================  ==========================================================================
``memif-cli``             the command line: ``--help`` of every verb
``memif-overview``        the control messages, one row each, from `memif.protocol.wire`
``memif-messages``        the same, field by field
``memif-transitions``     the handshake as a table, from `memif.protocol.handshake.TRANSITIONS`
``memif-states``          the same, drawn
``memif-errors``          the exceptions, from `memif.errors`, with what to do about each
``memif-codes``           the C library's numbers
``memif-quirks``          what to know about other implementations, from `memif.doctor.quirks`
``memif-faults``          what `memif doctor` names, from `memif.doctor.findings`
``memif-drawing NAME``    a drawing of memory, from `memif.memory.layout`
========================  ==========================================================================
"""

from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import command_line
import drawings
import failures
import messages
import peers
import states


def _text(make: Callable[[], str]) -> type[SphinxDirective]:
    """A directive that inserts the MyST text which `make` returns, headings included."""

    class Text(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return self.parse_text_to_nodes(make(), allow_section_headings=True)

    return Text


def _picture(make: Callable[[], str]) -> type[SphinxDirective]:
    """A directive that inserts the SVG which `make` returns."""

    class Picture(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return [nodes.raw("", make(), format="html")]

    return Picture


class Drawing(SphinxDirective):
    """One of the drawings of memory."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The SVG."""
        return [nodes.raw("", drawings.DRAWINGS[self.arguments[0]](), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("memif-cli", _text(command_line.pages))
    app.add_directive("memif-overview", _text(messages.overview))
    app.add_directive("memif-messages", _text(messages.tables))
    app.add_directive("memif-transitions", _text(states.table_text))
    app.add_directive("memif-states", _picture(states.drawing))
    app.add_directive("memif-errors", _text(failures.exceptions))
    app.add_directive("memif-codes", _text(failures.codes))
    app.add_directive("memif-quirks", _text(peers.quirks))
    app.add_directive("memif-faults", _text(peers.faults))
    app.add_directive("memif-drawing", Drawing)
    return {"parallel_read_safe": True}
