"""What a reader of one input format is: it finds the units of a file cheaply, and makes a row of one when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, TypeAlias

from orchestrator.job.rows.sources import Source

__all__ = ["Columns", "Malformed", "RowFormat"]

# The columns whose values are needed; None: all.
Columns: TypeAlias = frozenset[str] | None


class Malformed(Exception):
    """A unit of the file is no row; the message holds no text of it."""


class RowFormat(Protocol):
    """One input format.

    Finding and parsing are apart so that a resumed run can pass over what was read before.
    """

    # The column that identifies a row if the job names none; None: the line number.
    key_column: str | None

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int | None, Any]]:
        """Every unit of a file with its line (None: the file is one row); raises ``SpecError`` for a damaged file."""
        ...

    def parse(self, unit: Any, columns: Columns = None) -> dict[str, Any]:
        """The unit's columns, as JSON has them; raises ``Malformed``.

        A column that is not among ``columns`` may be null, whatever it holds.
        """
        ...
