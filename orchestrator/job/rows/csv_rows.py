"""CSV with a header: every value is text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.formats import Columns, Malformed
from orchestrator.job.rows.sources import Source, numbered_lines, opened

__all__ = ["CsvRows"]

Unit: TypeAlias = tuple[list[str], list[str] | Malformed]

# The standard library refuses fields over 131,072 characters, which a document easily has. A stray quote swallows
# the rest of a file as one field, so there must be some end: three times the longest input text of the API.
_FIELD_LIMIT = 32 * 1024 * 1024
_BOM = "\ufeff"


class CsvRows:
    """Comma-separated values (RFC 4180); a row's line is where it begins, quoted line breaks counted.

    What spreadsheets and joined files add is passed over: rows and columns at the end that are empty, byte order
    marks, and a header that is repeated after one.
    """

    key_column: str | None = None

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, Unit]]:
        csv.field_size_limit(_FIELD_LIMIT)
        with opened(source, stdin) as stream:
            lines = _Lines(stream, source.name)
            reader = csv.reader(lines, strict=True)
            header: list[str] | None = None
            while (found := _next_row(reader, lines)) is not None:
                line, row = found
                if header is None:
                    header = _checked_header(row, f"{source.name}:{line}")
                elif not (lines.marked_at == line and _repeats(row, header)):
                    yield line, (header, row)

    def parse(self, unit: Unit, columns: Columns = None) -> dict[str, Any]:  # noqa: ARG002 – all are text already
        header, row = unit
        if isinstance(row, Malformed):
            raise row
        if len(row) != len(header):
            row = _trimmed(row, len(header))
        return dict(zip(header, row, strict=True))


class _Lines:
    """The file's lines as text for the CSV parser, which must not meet an exception in the middle of a row.

    ``marked_at`` is the latest line that began with a byte order mark, as it does where files were joined.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._lines = numbered_lines(stream, name)
        self.number = 0
        self.undecodable: int | None = None
        self.marked_at: int | None = None

    def next_row_begins(self) -> int:
        self.undecodable = None
        return self.number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.undecodable = self.number
            text = line.decode(errors="replace")
        if text[0] == _BOM:
            self.marked_at = self.number
            return text.removeprefix(_BOM)
        return text


def _next_row(reader: Iterator[list[str]], lines: _Lines) -> tuple[int, list[str] | Malformed] | None:
    """The next row that is not blank, with the line on which it begins; None at the end."""
    while True:
        begins = lines.next_row_begins()
        try:
            row = next(reader)
        except StopIteration:
            return None
        except csv.Error as error:
            return begins, Malformed(f"the row is not valid CSV: {error}")
        if lines.undecodable is not None:
            return begins, Malformed(f"the text in line {lines.undecodable} is not UTF-8")
        if row and (row[0] or any(row)):
            return begins, row


def _checked_header(row: list[str] | Malformed, where: str) -> list[str]:
    if isinstance(row, Malformed):
        raise SpecError(f"the header cannot be read: {row}", where=where)
    while row and not row[-1].strip():
        row = row[:-1]
    if not row:
        raise SpecError("the header names no column", where=where)
    repeated = [name for name, count in Counter(row).items() if count > 1]
    if repeated:
        raise SpecError(f'the header names the column "{min(repeated)}" more than once', where=where)
    return row


def _repeats(row: list[str] | Malformed, header: list[str]) -> bool:
    return isinstance(row, list) and row[: len(header)] == header and not any(row[len(header) :])


def _trimmed(row: list[str], columns: int) -> list[str]:
    """The row without empty fields beyond the header."""
    if len(row) < columns or any(row[columns:]):
        raise Malformed(f"the row has {len(row)} fields, and the header names {columns} columns")
    return row[:columns]
