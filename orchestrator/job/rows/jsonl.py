"""Lines of JSON: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from orchestrator.core.errors import SpecError
from orchestrator.core.exact_json import RepeatedName, loads_row
from orchestrator.job.rows.formats import Columns, Malformed, ReadingRules
from orchestrator.job.rows.sources import BOM, LINES_OF_ARRAY, Source, numbered_lines, opened

__all__ = ["JsonLines"]


class JsonLines:
    """Blank lines are passed over, and so are byte order marks, which stand wherever files were joined."""

    key_column: str | None = None

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, bytes]]:
        with opened(source, stdin, self.rules.caps) as stream:
            lines = numbered_lines(stream, source.name, self.rules.caps)
            for number, line in lines:
                if not line.isspace():
                    _refuse_array(line, f"{source.name}:{number}")
                    yield number, line
                    break
            for number, line in lines:
                if not line.isspace():
                    yield number, line

    def parse(self, unit: bytes, columns: Columns = None) -> dict[str, Any]:  # noqa: ARG002 – all are decoded already
        try:
            row = loads_row(unit.removeprefix(BOM))
        except RepeatedName:
            raise Malformed("an object in the line has two fields of the same name") from None
        except ValueError as error:
            raise Malformed(_reason(unit, error)) from None
        if not isinstance(row, dict):
            raise Malformed("the line holds JSON, but not an object; one {…} must stand on each line")
        return row


def _refuse_array(line: bytes, where: str) -> None:
    if line.lstrip().startswith(b"["):
        raise SpecError("the file is a JSON array, not one object a line", where=where, hint=LINES_OF_ARRAY)


def _reason(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as invalid:
        return f"the line is not UTF-8 text (byte {invalid.start + 1})"
    if isinstance(error, orjson.JSONDecodeError):
        return f"the line is not valid JSON (column {error.pos + 1})"
    return "the line is nested too deeply, or holds a number of more than 4,300 digits"
