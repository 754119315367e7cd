"""The reference of all commands, from their own help pages: ``python -m orchestrator.cli.reference``."""

from __future__ import annotations

import io
import sys

from cyclopts import App
from rich.console import Console

from orchestrator.cli.app import build_app

__all__ = ["reference"]

_WIDTH = 100


def reference() -> str:
    """A Markdown page with the help of every command, in the order of the overview."""
    app = build_app()
    # An alias is the same command again.
    pages = {id(app[name]): name for name in reversed(list(app)) if not name.startswith("-")}
    commands = [name for name in app if name in pages.values()]
    sections = ["# Commands", _page(app, [])]
    for name in commands:
        sections += [f"## {name}", _page(app, [name])]
    return "\n\n".join(sections) + "\n"


def _page(app: App, tokens: list[str]) -> str:
    page = io.StringIO()
    app.help_print(tokens, console=Console(file=page, width=_WIDTH, color_system=None, highlight=False))
    lines = [line.rstrip() for line in page.getvalue().strip("\n").split("\n")]
    return "\n".join(["```text", *lines, "```"])


if __name__ == "__main__":
    sys.stdout.write(reference())
