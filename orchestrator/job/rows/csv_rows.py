"""CSV with a header: every value is text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO, TypeAlias

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.formats import Columns, Malformed, ReadingRules, not_in_encoding
from orchestrator.job.rows.sources import Source, numbered_lines, opened

__all__ = ["CsvRows"]

Unit: TypeAlias = tuple[list[str], list[str] | Malformed]

# What else separates fields, by the name that people have for it.
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_BOM = "\ufeff"


class CsvRows:
    """Comma-separated values (RFC 4180); a row's line is where it begins, quoted line breaks counted.

    What spreadsheets and joined files add is passed over: rows and columns at the end that are empty, byte order
    marks, and a header that is repeated after one.
    """

    key_column: str | None = None

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, Unit]]:
        rules = self.rules
        csv.field_size_limit(rules.caps.field_characters)
        delimiter = rules.delimiter or ("\t" if ".tsv" in PurePath(source.relative.lower()).suffixes else ",")
        with opened(source, stdin, rules.caps) as stream:
            lines = _Lines(stream, source.name, rules)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            header: list[str] | None = None
            while (found := _next_row(reader, lines)) is not None:
                line, row = found
                if header is None:
                    header = _checked_header(row, f"{source.name}:{line}", rules)
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

    def __init__(self, stream: BinaryIO, name: str, rules: ReadingRules) -> None:
        self._lines = numbered_lines(stream, name, rules.caps)
        self._encoding = rules.encoding or "utf-8"
        self.rules = rules
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
            text = line.decode(self._encoding)
        except UnicodeDecodeError:
            self.undecodable = self.number
            text = line.decode(self._encoding, errors="replace")
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
            return begins, _not_csv(error, lines.rules)
        if lines.undecodable is not None:
            return begins, not_in_encoding(lines.rules, lines.undecodable)
        if row and (row[0] or any(row)):
            return begins, row


def _not_csv(error: csv.Error, rules: ReadingRules) -> Malformed:
    if "field larger than field limit" in str(error):
        hint = "is a quotation mark missing? otherwise raise input.caps.field_characters"
        return Malformed(f"a field has more than {rules.caps.field_characters:,} characters", hint=hint)
    return Malformed(f"the row is not valid CSV: {error}")


def _checked_header(row: list[str] | Malformed, where: str, rules: ReadingRules) -> list[str]:
    if isinstance(row, Malformed):
        raise SpecError(f"the header cannot be read: {row}", where=where, hint=row.hint)
    if len(row) > rules.caps.columns:
        hint = "raise input.caps.columns if they are meant"
        raise SpecError(
            f"the header names {len(row):,} columns, and {rules.caps.columns:,} are allowed", where=where, hint=hint
        )
    if len(row) == 1 and rules.delimiter is None:
        _refuse_other_delimiter(row[0], where)
    while row and not row[-1].strip():
        row = row[:-1]
    if not row:
        raise SpecError("the header names no column", where=where)
    repeated = [name for name, count in Counter(row).items() if count > 1]
    if repeated:
        raise SpecError(f'the header names the column "{min(repeated)}" more than once', where=where)
    return row


def _refuse_other_delimiter(header: str, where: str) -> None:
    """Raise ``SpecError`` if a header of one column looks like several."""
    sign = max(_OTHER_DELIMITERS, key=header.count)
    if sign in header:
        written = "tab" if sign == "\t" else f'"{sign}"'
        raise SpecError(
            f"the fields look separated by {_OTHER_DELIMITERS[sign]}, not by commas",
            where=where,
            hint=f'add `delimiter: {written}` to the job\'s input; for one column, add `delimiter: ","`',
        )


def _repeats(row: list[str] | Malformed, header: list[str]) -> bool:
    return isinstance(row, list) and row[: len(header)] == header and not any(row[len(header) :])


def _trimmed(row: list[str], columns: int) -> list[str]:
    """The row without empty fields beyond the header."""
    if len(row) < columns or any(row[columns:]):
        raise Malformed(f"the row has {len(row)} fields, and the header names {columns} columns")
    return row[:columns]
