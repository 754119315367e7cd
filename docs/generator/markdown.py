"""Markdown from plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["code", "plain", "table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def code(text: str) -> str:
    """Literal text in backticks; in two of them if it contains one."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def plain(text: str) -> str:
    """A docstring's text on one line, with Markdown's single backticks."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


def _cell(text: str) -> str:
    # A bar ends a cell even between backticks.
    return text.replace("|", "\\|").replace("\n", "<br>")
