"""What a reader of one input format is: it finds the units of a file cheaply, and makes a row of one when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.rows.caps import InputCaps
from orchestrator.job.rows.sources import Source

__all__ = ["Columns", "Malformed", "ReadingRules", "RowFormat", "not_in_encoding"]

# The columns whose values are needed; None: all.
Columns: TypeAlias = frozenset[str] | None


class Malformed(Exception):
    """A unit of the file is no row; the message holds no text of it, and ``hint`` says what to do about the file."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@fast_dataclass(kw_only=False)
class ReadingRules:
    """How a job wants its files read; None: as the format's default."""

    delimiter: str | None = None
    encoding: str | None = None
    caps: InputCaps = InputCaps()


def not_in_encoding(rules: ReadingRules, line: int) -> Malformed:
    """The error for bytes that the encoding of a file does not have."""
    if rules.encoding is not None:
        return Malformed(f"the text in line {line} is not {rules.encoding}", hint="see input.encoding")
    hint = "save the file as UTF-8, or name its encoding, often `input: {encoding: cp1252}`"
    return Malformed(f"the text in line {line} is not UTF-8", hint=hint)


class RowFormat(Protocol):
    """One input format.

    Finding and parsing are apart so that a resumed run can pass over what was read before.
    """

    rules: ReadingRules

    # The column that identifies a row if the job names none; None: the line number.
    key_column: str | None

    def __init__(self, rules: ReadingRules) -> None: ...

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int | None, Any]]:
        """Every unit of a file with its line (None: the file is one row); raises ``SpecError`` for a damaged file."""
        ...

    def parse(self, unit: Any, columns: Columns = None) -> dict[str, Any]:
        """The unit's columns, as JSON has them; raises ``Malformed``.

        A column that is not among ``columns`` may be null, whatever it holds.
        """
        ...
