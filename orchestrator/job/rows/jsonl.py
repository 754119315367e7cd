"""Lines of JSON: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from orchestrator.job.rows.formats import Malformed
from orchestrator.job.rows.sources import Source, numbered_lines, opened

__all__ = ["JsonLines"]


class JsonLines:
    """Blank lines are passed over."""

    key_column: str | None = None

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, bytes]]:
        with opened(source, stdin) as stream:
            for number, line in numbered_lines(stream, source.name):
                if not line.isspace():
                    yield number, line

    def parse(self, unit: bytes) -> dict[str, Any]:
        try:
            row = orjson.loads(unit)
        except orjson.JSONDecodeError as error:
            raise Malformed(_reason(unit, error)) from None
        if not isinstance(row, dict):
            raise Malformed("the line holds JSON, but not an object; one {…} must stand on each line")
        return row


def _reason(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as invalid:
        return f"the line is not UTF-8 text (byte {invalid.start + 1})"
    return f"the line is not valid JSON (column {error.pos + 1})"
