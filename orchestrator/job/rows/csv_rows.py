"""CSV with a header: every value is text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.formats import Malformed
from orchestrator.job.rows.sources import Source, numbered_lines, opened

__all__ = ["CsvRows"]

Unit: TypeAlias = tuple[list[str], list[str] | Malformed]

# The standard library refuses fields over 131,072 characters, which a document easily has. A stray quote swallows
# the rest of a file as one field, so there must be some end: three times the longest input text of the API.
_FIELD_LIMIT = 32 * 1024 * 1024


class CsvRows:
    """Comma-separated values (RFC 4180); a row's line is where it begins, quoted line breaks counted."""

    key_column: str | None = None

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, Unit]]:
        csv.field_size_limit(_FIELD_LIMIT)
        with opened(source, stdin) as stream:
            lines = _Lines(stream, source.name)
            reader = csv.reader(lines, strict=True)
            header: list[str] | None = None
            while (found := _next_row(reader, lines)) is not None:
                line, row = found
                if header is not None:
                    yield line, (header, row)
                else:
                    header = _checked_header(row, f"{source.name}:{line}")

    def parse(self, unit: Unit) -> dict[str, Any]:
        header, row = unit
        if isinstance(row, Malformed):
            raise row
        if len(row) != len(header):
            raise Malformed(f"the row has {len(row)} fields, and the header names {len(header)} columns")
        return dict(zip(header, row, strict=True))


class _Lines:
    """The file's lines as text for the CSV parser, which must not meet an exception in the middle of a row."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._lines = numbered_lines(stream, name)
        self.number = 0
        self.undecodable: int | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.undecodable = self.number
            return line.decode(errors="replace")


def _next_row(reader: Iterator[list[str]], lines: _Lines) -> tuple[int, list[str] | Malformed] | None:
    """The next row that is not blank, with the line on which it begins; None at the end."""
    row: list[str] | Malformed = []
    while not row:
        begins, lines.undecodable = lines.number + 1, None
        try:
            row = next(reader)
        except StopIteration:
            return None
        except csv.Error as error:
            row = Malformed(f"the row is not valid CSV: {error}")
    if lines.undecodable is not None:
        row = Malformed(f"the text in line {lines.undecodable} is not UTF-8")
    return begins, row


def _checked_header(row: list[str] | Malformed, where: str) -> list[str]:
    if isinstance(row, Malformed):
        raise SpecError(f"the header cannot be read: {row}", where=where)
    if twice := {name for name in row if row.count(name) > 1}:
        raise SpecError(f'the header names the column "{min(twice)}" more than once', where=where)
    return row
