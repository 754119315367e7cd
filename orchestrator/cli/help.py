"""Help pages as plain columns: titles, names, and what they do, readable without colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = ["PlainColumns"]

_NARROWEST_NAMES = 12


class PlainColumns:
    """Lays out the commands and options that cyclopts gathers."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:  # noqa: ARG002
        """The first line."""
        console.print(Text.assemble(("Usage: ", "bold"), str(usage).strip().removeprefix("Usage: ")))

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:  # noqa: ARG002
        """What the command does; paragraphs are wrapped to the width of the terminal."""
        for paragraph in _plain(description).split("\n\n"):
            console.print()
            console.print(Text(" ".join(paragraph.split())))

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:  # noqa: ARG002
        """One titled group of commands or options."""
        if not panel.entries:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=_NARROWEST_NAMES, style="cyan")
        table.add_column()
        for entry in panel.entries:
            table.add_row(f"  {_name(entry)}", _description(entry))
        console.print()
        console.print(Text(str(panel.title), "bold"))
        console.print(table)


def _name(entry: HelpEntry) -> str:
    names = ", ".join((*entry.positive_shorts, *entry.positive_names)) or entry.positional_label or ""
    return f"{names} {entry.metavar}" if entry.metavar and not entry.positional_label else names


def _description(entry: HelpEntry) -> Text:
    notes = " | ".join(entry.choices) if entry.choices else f"default: {entry.default}" if entry.default else ""
    return Text.assemble(_plain(entry.description).strip(), (f" [{notes}]" if notes else "", "dim"))


def _plain(description: Any) -> str:
    # A description is a renderable of cyclopts' own, whose text is its first part.
    text = getattr(description, "primary_renderable", description)
    return text.plain if isinstance(text, Text) else str(text or "")
