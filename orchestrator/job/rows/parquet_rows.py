"""Parquet files, through the ``parquet`` extra, one batch of rows in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.formats import Columns, Malformed, ReadingRules
from orchestrator.job.rows.sources import Source

if TYPE_CHECKING:
    from arro3.core import Array, RecordBatch, Scalar

__all__ = ["ParquetFiles"]

Unit: TypeAlias = tuple["_Batch", int]

_BATCH_ROWS = 10_000
_MAGIC = b"PAR1"
# The mark at both ends, and the length of the footer.
_LEAST_BYTES = 12


class ParquetFiles:
    """A row's line is its number in the file, from 1."""

    key_column: str | None = None

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, Unit]]:  # noqa: ARG002
        number = 0
        for batch in _batches(source):
            columns = _Batch(batch)
            for index in range(batch.num_rows):
                number += 1
                yield number, (columns, index)

    def parse(self, unit: Unit, columns: Columns = None) -> dict[str, Any]:
        batch, index = unit
        return {
            name: None if values is None else _as_json(name, values[index])
            for name, values in batch.values(columns).items()
        }


class _Batch:
    """Converts its columns when the first row is asked for, so that passing over rows stays cheap."""

    def __init__(self, batch: RecordBatch) -> None:
        self._batch = batch
        self._values: dict[str, list[Any] | None] | None = None

    def values(self, columns: Columns) -> dict[str, list[Any] | None]:
        """The values of the columns; None in place of those that are not needed."""
        if self._values is None:
            self._values = {
                name: _values(self._batch.column(index)) if columns is None or name in columns else None
                for index, name in enumerate(self._batch.column_names)
            }
        return self._values


class _OutOfRange:
    """Stands for a moment that Python has no value for."""


def _values(column: Array) -> list[Any]:
    values = _python_values(column)
    return [*map(_with_nanoseconds, values, _nanoseconds(column))] if column.type.time_unit == "ns" else values


def _nanoseconds(column: Array) -> list[int | None]:
    from arro3.core import DataType

    counts: list[int | None] = column.cast(DataType.int64()).to_pylist()
    return counts


def _with_nanoseconds(moment: Any, count: int | None) -> Any:
    """A moment as text if it has more digits than Python's moments have."""
    if count is None or count % 1000 == 0 or not isinstance(moment, datetime | time):
        return moment
    seconds, _, fraction = moment.isoformat(timespec="microseconds").partition(".")
    return f"{seconds}.{fraction[:6]}{count % 1000:03d}{fraction[6:]}"


def _python_values(column: Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except ValueError:
        values = []
    if len(values) == len(column) and values.count(None) == column.null_count:
        return values
    return [_value(column[index]) for index in range(len(column))]


def _value(scalar: Scalar) -> Any:
    try:
        value = scalar.as_py()
    except ValueError:
        return _OutOfRange()
    # The library gives null for some moments that are out of range.
    return _OutOfRange() if value is None and scalar.is_valid else value


def _batches(source: Source) -> Iterator[RecordBatch]:
    try:
        from arro3.io import read_parquet
    except ImportError:
        raise SpecError(
            "reading parquet needs an extra package",
            where=source.name,
            hint="pip install 'responses-orchestrator[parquet]'",
        ) from None
    number = 0
    try:
        _refuse_foreign(source)
        reader = read_parquet(str(source.path), batch_size=_BATCH_ROWS)
        _refuse_repeated(reader.schema.names, source)
        for batch in reader:
            yield batch
            number += batch.num_rows
    except SpecError:
        raise
    except OSError as error:
        raise SpecError(f"the file cannot be read: {error.strerror or error}", where=source.name) from None
    except BaseException as error:
        # The library raises plain exceptions for a damaged file, and panics with one that is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SpecError(
            "the parquet file is damaged", where=f"{source.name}:{number + 1}", hint="write it again from its source"
        ) from None


def _refuse_repeated(names: Sequence[str], source: Source) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        raise SpecError(f'the file has the column "{repeated}" more than once', where=source.name)


def _refuse_foreign(source: Source) -> None:
    size = source.path.stat().st_size
    with source.path.open("rb") as stream:
        head = stream.read(len(_MAGIC))
        stream.seek(max(size - len(_MAGIC), 0))
        if size < _LEAST_BYTES or head != _MAGIC or stream.read() != _MAGIC:
            raise SpecError("the file is not parquet, or was cut short", where=source.name)


def _as_json(column: str, value: Any) -> Any:
    """The value in the types of JSON: moments as ISO text, exact decimals as text, NaN as null."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case list() | tuple():
            return [_as_json(column, inner) for inner in value]
        case dict():
            return {str(name): _as_json(column, inner) for name, inner in value.items()}
        case _OutOfRange():
            raise Malformed(f'the column "{column}" holds a moment that is out of range')
    raise Malformed(f'the column "{column}" holds {type(value).__name__}, which JSON does not have')
