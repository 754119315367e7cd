"""Parquet files, through the ``parquet`` extra, one batch of rows in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.formats import Malformed
from orchestrator.job.rows.sources import Source

if TYPE_CHECKING:
    from arro3.core import RecordBatch

__all__ = ["ParquetFiles"]

Unit: TypeAlias = tuple["_Batch", int]

_BATCH_ROWS = 10_000
_MAGIC = b"PAR1"
# The mark at both ends, and the length of the footer.
_LEAST_BYTES = 12


class ParquetFiles:
    """A row's line is its number in the file, from 1."""

    key_column: str | None = None

    def units(self, source: Source, stdin: BinaryIO | None) -> Iterator[tuple[int, Unit]]:  # noqa: ARG002
        number = 0
        for batch in _batches(source):
            columns = _Batch(batch)
            for index in range(batch.num_rows):
                number += 1
                yield number, (columns, index)

    def parse(self, unit: Unit) -> dict[str, Any]:
        batch, index = unit
        return {name: _as_json(name, values[index]) for name, values in batch.columns().items()}


class _Batch:
    """Converts its columns when the first row is asked for, so that passing over rows stays cheap."""

    def __init__(self, batch: RecordBatch) -> None:
        self._batch = batch
        self._columns: dict[str, list[Any]] | None = None

    def columns(self) -> dict[str, list[Any]]:
        if self._columns is None:
            batch = self._batch
            self._columns = {name: batch.column(i).to_pylist() for i, name in enumerate(batch.column_names)}
        return self._columns


def _batches(source: Source) -> Iterator[RecordBatch]:
    try:
        from arro3.io import read_parquet
    except ImportError:
        raise SpecError(
            "reading parquet needs an extra package",
            where=source.name,
            hint="pip install 'responses-orchestrator[parquet]'",
        ) from None
    try:
        _refuse_foreign(source)
        yield from read_parquet(str(source.path), batch_size=_BATCH_ROWS)
    except OSError as error:
        raise SpecError(f"the file cannot be read: {error.strerror}", where=source.name) from None
    except BaseException as error:
        # The library panics on a damaged file, with an exception that is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise SpecError("the parquet file is damaged", where=source.name) from None


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
    raise Malformed(f'the column "{column}" holds {type(value).__name__}, which JSON does not have')
