"""Plain columns for terminals and pipes: nothing is cut off, and nothing depends on colour."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.text import Text

__all__ = ["columns"]


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> Text:
    """Rows under a header, two blanks between columns; the columns in ``right`` (from 0) are figures."""
    widths = [max(map(cell_len, cells)) for cells in zip(header, *rows, strict=True)]
    text = Text(_line(header, widths, right), style="bold")
    for row in rows:
        text.append(f"\n{_line(row, widths, right)}", style="not bold")
    return text


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blanks = " " * (width - cell_len(cell))
        padded.append(blanks + cell if index in right else cell + blanks)
    return "  ".join(padded).rstrip()
