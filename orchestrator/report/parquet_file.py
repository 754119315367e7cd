"""Results as Parquet, with the extra ``parquet``: one row group at a time, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio.from_thread
import anyio.to_thread

from orchestrator.core.errors import UsageError
from orchestrator.core.money import format_usd
from orchestrator.report.answer_columns import AnswerColumn, answer_columns, answer_of, fits_parquet, value_in
from orchestrator.report.columns import Kind, columns_of, flat_row, stage_values
from orchestrator.stores.reads import ResultRecord

if TYPE_CHECKING:
    from arro3.core import RecordBatch, Schema

__all__ = ["require_parquet", "write_parquet"]

_BATCH_ROWS = 2_000
_GROUP_ROWS = 10_000


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
    records: AsyncIterator[ResultRecord],
    out: BinaryIO,
    *,
    schema: Mapping[str, Any] | None = None,
    staged: bool = False,
) -> int:
    """Write typed columns: times as UTC timestamps, money as exact decimals. Returns the number of rows.

    With a ``schema``, the fields of the answers follow the other columns; ``staged`` adds those of stages.
    Raises ``UsageError`` if the extra is not installed.
    """
    require_parquet()
    from arro3.core import RecordBatchReader
    from arro3.io import write_parquet as write

    answers = answer_columns(schema or {})
    kinds = {**columns_of(staged=staged), **{column.name: column.kind for column in answers}}
    table = _schema(kinds)
    rows = 0
    problem: list[BaseException] = []

    def batches() -> Iterator[RecordBatch]:
        # The writer replaces exceptions by its own error, so the cause is stored here.
        nonlocal rows
        try:
            while page := anyio.from_thread.run(_page, records):
                anyio.from_thread.check_cancelled()
                rows += len(page)
                yield _batch(list(_rows(page, answers, staged=staged)), kinds, table)
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


def _schema(kinds: Mapping[str, Kind]) -> Schema:
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
    return Schema([Field(name, types[kind]) for name, kind in kinds.items()])


def _rows(
    page: Iterable[ResultRecord], answers: Sequence[AnswerColumn], *, staged: bool
) -> Iterator[tuple[Any, ...]]:
    for record in page:
        stages = stage_values(record) if staged else ()
        answer = answer_of(record) if answers else None
        values = ((value_in(answer, column), column.kind) for column in answers)
        yield (*flat_row(record), *stages, *(value if fits_parquet(value, kind) else None for value, kind in values))


def _batch(rows: list[tuple[Any, ...]], kinds: Mapping[str, Kind], schema: Schema) -> RecordBatch:
    from arro3.core import Array, DataType, RecordBatch

    arrays = []
    for (name, kind), values in zip(kinds.items(), zip(*rows, strict=True), strict=True):
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
