"""Rows that a Python program has in memory: mappings, objects, or the rows of a data frame."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from orchestrator.core.errors import UsageError

__all__ = ["as_json_lines"]


def as_json_lines(rows: Any) -> bytes:
    """Rows as lines of JSON; raises ``UsageError`` for what is no row.

    A row is a mapping, a Pydantic object or a dataclass. A data frame is one of pandas or polars, or a table of
    Arrow. What is missing in it (NaN, NaT, NA) becomes null.
    """
    return b"".join(_line(number, row) for number, row in enumerate(_iterate(rows), start=1))


def _iterate(rows: Any) -> Iterable[Any]:
    if hasattr(rows, "iter_rows"):  # polars
        return rows.iter_rows(named=True)  # type: ignore[no-any-return]
    if hasattr(rows, "to_pylist"):  # Arrow
        return rows.to_pylist()  # type: ignore[no-any-return]
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        return rows.to_dict("records")  # type: ignore[no-any-return]
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise UsageError(
            f"rows are given as a {type(rows).__name__}",
            hint="give an iterable of mappings or Pydantic objects, or a data frame",
        )
    return rows


def _line(number: int, row: Any) -> bytes:
    columns = _columns(number, row)
    try:
        return orjson.dumps(columns, default=_plain, option=_OPTIONS)
    except TypeError:  # such as an integer of more than 64 bits
        try:
            return json.dumps(columns, default=_plain, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise UsageError(f"row {number} cannot be written as JSON: {error}") from None


def _columns(number: int, row: Any) -> dict[str, Any]:
    if hasattr(row, "model_dump"):
        row = row.model_dump(mode="json")
    elif dataclasses.is_dataclass(row) and not isinstance(row, type):
        row = dataclasses.asdict(row)
    if not isinstance(row, Mapping):
        raise UsageError(
            f"row {number} is a {type(row).__name__}", hint="a row is a mapping, a Pydantic object or a dataclass"
        )
    return {str(name): value for name, value in row.items()}


def _plain(value: Any) -> Any:
    text = str(value)
    if text in {"NaT", "<NA>", "nan"}:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if type(value).__module__.partition(".")[0] in {"decimal", "pathlib", "uuid", "ipaddress"}:
        return text
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
