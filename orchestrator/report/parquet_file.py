"""Results as Parquet, with the extra ``parquet``: one row group at a time, in constant memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio.from_thread
import anyio.to_thread

from orchestrator.core.errors import UsageError
from orchestrator.core.money import format_usd
from orchestrator.report.columns import COLUMNS, Kind, flat_row
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.stores.reads import ResultRecord

if TYPE_CHECKING:
    from arro3.core import RecordBatch, Schema

__all__ = ["require_parquet", "write_parquet"]

_BATCH_ROWS = 2_000
_GROUP_ROWS = 10_000
_INT64 = range(-(2**63), 2**63)


def require_parquet() -> None:
    """Raise ``UsageError`` if the extra is not installed."""
    try:
        import arro3.core
        import arro3.io  # noqa: F401
    except ImportError:
        raise UsageError(
            "Parquet needs the extra that reads and writes it", hint="pip install 'responses-orchestrator[parquet]'"
        ) from None


async def write_parquet(
    open_records: Callable[[], AsyncIterator[ResultRecord]], out: BinaryIO, *, extra: ExtraColumns | None = None
) -> int:
    """Write typed columns: times as UTC timestamps, money as exact decimals. Returns the number of rows.

    ``extra`` columns follow the others. One with a number that its type cannot hold without a loss is written as
    text; that is seen only when the number comes, and the records are read again then. Raises ``UsageError`` if the
    extra of the package is not installed.
    """
    require_parquet()
    extra = extra or ExtraColumns()
    # Only what was empty may be emptied: standard output may be a pipe, or a file that is appended to.
    if out.seekable() and out.seek(0, os.SEEK_END) == 0:
        return await _write_until_it_fits(open_records, out, extra)
    with TemporaryFile() as whole:
        rows = await _write_until_it_fits(open_records, whole, extra)
        whole.seek(0)
        await anyio.to_thread.run_sync(copyfileobj, whole, out)
        return rows


async def _write_until_it_fits(
    open_records: Callable[[], AsyncIterator[ResultRecord]], empty: BinaryIO, extra: ExtraColumns
) -> int:
    while True:
        try:
            return await _write_once(open_records(), empty, extra)
        except _DoesNotFit as misfit:
            extra = extra.as_texts(misfit.columns)
            empty.seek(0)
            empty.truncate()


class _DoesNotFit(Exception):
    """Columns have values that their types cannot hold."""

    def __init__(self, columns: Collection[str]) -> None:
        super().__init__(", ".join(columns))
        self.columns = columns


async def _write_once(records: AsyncIterator[ResultRecord], out: BinaryIO, extra: ExtraColumns) -> int:
    from arro3.core import RecordBatchReader
    from arro3.io import write_parquet as write

    table = _schema(extra)
    rows = 0
    problem: list[BaseException] = []

    def batches() -> Iterator[RecordBatch]:
        # The writer replaces exceptions by its own error, so the cause is stored here.
        nonlocal rows
        try:
            while page := anyio.from_thread.run(_page, records):
                anyio.from_thread.check_cancelled()
                rows += len(page)
                yield _batch(page, extra, table)
        except BaseException as error:
            problem.append(error)
            raise

    def work() -> None:
        reader = RecordBatchReader.from_batches(table, batches())
        write(reader, out, compression="zstd(3)", max_row_group_size=_GROUP_ROWS)

    try:
        await anyio.to_thread.run_sync(work)
    except BaseException:
        if problem:
            raise problem[0] from None
        raise
    return rows


async def _page(records: AsyncIterator[ResultRecord]) -> list[ResultRecord]:
    page = []
    async for record in records:
        page.append(record)
        if len(page) == _BATCH_ROWS:
            break
    return page


def _kinds(extra: ExtraColumns) -> dict[str, Kind]:
    return {**COLUMNS, **extra.kinds}


def _schema(extra: ExtraColumns) -> Schema:
    from arro3.core import DataType, Field, Schema

    types = {
        Kind.TEXT: DataType.string(),
        Kind.COUNT: DataType.int64(),
        Kind.NUMBER: DataType.float64(),
        Kind.FLAG: DataType.bool(),
        Kind.MONEY: DataType.decimal128(38, 12),
        Kind.TIME: DataType.timestamp("us", tz="UTC"),
        Kind.JSON: DataType.string(),
    }
    return Schema([Field(name, types[kind]) for name, kind in _kinds(extra).items()])


def _columns(page: Iterable[ResultRecord], extra: ExtraColumns) -> list[tuple[Any, ...]]:
    """The values of each column; raises ``_DoesNotFit``."""
    columns = [*zip(*((*flat_row(record), *extra.values(record)) for record in page), strict=True)]
    further = zip(extra.kinds.items(), columns[len(COLUMNS) :], strict=True)
    misfits = [name for (name, kind), values in further if not all(_fits(value, kind) for value in values)]
    if misfits:
        raise _DoesNotFit(misfits)
    return columns


def _fits(value: Any, kind: Kind) -> bool:
    match kind:
        case Kind.COUNT:
            return value is None or (isinstance(value, int) and value in _INT64)
        case Kind.NUMBER:
            return value is None or type(value) is float
    return True


def _batch(page: list[ResultRecord], extra: ExtraColumns, schema: Schema) -> RecordBatch:
    from arro3.core import Array, DataType, RecordBatch

    arrays = []
    for (name, kind), values in zip(_kinds(extra).items(), _columns(page, extra), strict=True):
        # Decimals and timestamps cannot be built from Python values, only cast from text and integers.
        match kind:
            case Kind.TEXT | Kind.JSON | Kind.COUNT | Kind.NUMBER | Kind.FLAG:
                array = Array(values, type=schema.field(name).type)
            case Kind.MONEY:
                exact = [None if value is None else format_usd(value) for value in values]
                array = Array(exact, type=DataType.string()).cast(schema.field(name).type)
            case Kind.TIME:
                micros = [None if value is None else round(value * 1e6) for value in values]
                array = Array(micros, type=DataType.int64()).cast(schema.field(name).type)
        arrays.append(array)
    return RecordBatch(arrays, schema=schema)
