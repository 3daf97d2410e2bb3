"""How all verbs are alike: `Verb`, the class of their commands. Help in groups, ranges in words."""

from typing import Any, Final

import click

_ANY: Final = 1 << 16  # a limit so high that help does not mention it


_DEFAULTS: Final = (
    "Defaults of these options come from the profile, from the environment (MEMIF_SOCKET, MEMIF_RX_QUEUES and so on), "
    "and from the top of the file ~/.config/memif.toml, in this order."
)


class LinkOption(click.Option):
    """An option of the link: help shows it with the others of the link."""

    section: Final = "Link options"


class Verb(click.Command):
    """A command whose help has a section for the options of the link, and whose ranges are in words."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            param.type = _in_words(param.type)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)
                if name == LinkOption.section:
                    formatter.write_paragraph()
                    formatter.write_text(_DEFAULTS)


class Verbs(click.Group):
    """A verb with verbs of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            param.type = _in_words(param.type)


class _InWords:
    """How help and errors describe a range. Mixed into a range of click's, which has `min`, `max` and `min_open`."""

    name = "number"
    min: Any
    max: Any

    def _describe_range(self) -> str:
        return _for_help(self.min, self.max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to a number; usage error for one out of range."""
        kind = click.INT if isinstance(self, click.IntRange) else click.FLOAT
        return _within(kind.convert(value, param, ctx), self, param, ctx)


class _Whole(_InWords, click.IntRange):
    """A whole number in a range."""


class _Real(_InWords, click.FloatRange):
    """A number in a range."""


def _within(number: float, kind: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
    """Return a number of the range `kind`. What is not a number at all (nan) is out of range too."""
    if kind.min_open and number <= kind.min:
        kind.fail(f"{number} is out of range: more than {kind.min}", param, ctx)
    if not (kind.min is None or number >= kind.min) or not (kind.max is None or number <= kind.max):
        kind.fail(f"{number} is out of range: {_range(kind.min, kind.max)}", param, ctx)
    return number


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low} or more"
    return f"at most {high}" if low is None else f"{low} to {high}"


def _for_help(low: float | None, high: float | None) -> str:
    """Only limits that somebody could meet."""
    if high is None or high >= _ANY:
        return "" if low in (None, 0) else f"{low} or more"
    return _range(low, high)


def _in_words(kind: Any) -> Any:
    if type(kind) is click.IntRange:
        return _Whole(kind.min, kind.max)
    return _Real(kind.min, kind.max, min_open=kind.min_open) if type(kind) is click.FloatRange else kind
