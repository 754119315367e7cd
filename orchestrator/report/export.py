"""Results as files: JSON Lines, CSV and OpenAI batch output, written row by row in constant memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import orjson

from orchestrator.core import exact_json
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.job.result_file import Included
from orchestrator.provider.answer_items import answer_parts
from orchestrator.report.answer_columns import answer_of
from orchestrator.report.columns import COLUMNS, STAGE_COLUMNS, Kind, error_of, flat_row, stage_values
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.report.formatting import stamp
from orchestrator.report.row_columns import row_of
from orchestrator.stores.reads import ResultRecord

__all__ = ["BodyOf", "Format", "format_for", "jsonl_line", "write_csv", "write_jsonl", "write_openai_batch"]

BodyOf: TypeAlias = Callable[[ResultRecord], Awaitable[bytes | None]]

_JSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_TEXT_BUFFER = 1 << 18
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Format(StrEnum):
    """The formats of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    SAFE_CSV = "safe-csv"
    PARQUET = "parquet"
    OPENAI_BATCH = "openai-batch"


def format_for(path: Path | None) -> Format:
    """Returns the format for the extension of a file; JSON Lines for any other."""
    suffix = path.suffix.lower() if path else ""
    return {".csv": Format.CSV, ".parquet": Format.PARQUET}.get(suffix, Format.JSONL)


async def write_jsonl(
    records: AsyncIterator[ResultRecord],
    out: BinaryIO,
    *,
    schema: Mapping[str, Any] | None = None,
    typed_stages: Collection[str] = (),
    include: Included = "none",
    with_parts: bool = False,
) -> int:
    """Write one object per line; returns how many.

    With a ``schema``, or at one of ``typed_stages``, ``output`` is the answer as a value. ``include`` adds
    columns of the row as the field ``row``, and ``with_parts`` what an answer has beside its text.
    """
    rows = 0
    write = out.write
    is_plain = include == "none" and not with_parts
    async for record in records:
        more = {} if is_plain else _more(record, include, with_parts=with_parts)
        is_typed = schema is not None or record.stage in typed_stages
        write(_encoded(record, answer_of(record) if is_typed else None, more))
        rows += 1
    return rows


def jsonl_line(record: ResultRecord) -> bytes:
    """Returns one line of a JSON Lines export."""
    return _encoded(record, None, {})


def _more(record: ResultRecord, include: Included, *, with_parts: bool) -> dict[str, Any]:
    """The fields of a line that only some exports have."""
    more: dict[str, Any] = {}
    if include != "none":
        row = row_of(record)
        more["row"] = row if include == "all" else {name: row.get(name) for name in include}
    if with_parts:
        # In the order of their fields, as orjson writes them.
        parts = answer_parts(record.details.body if record.details is not None else None)
        more.update((each.name, getattr(parts, each.name)) for each in fields(parts))
    return more


def _encoded(record: ResultRecord, output: Any, more: dict[str, Any]) -> bytes:
    try:
        return exact_json.dumps(_line(record, output) | more, option=_JSON_OPTIONS)
    except TypeError:
        # An answer may be nested deeper than any JSON writer goes; its text is there, and one row stops no export.
        return exact_json.dumps(_line(record, None) | dict.fromkeys(more), option=_JSON_OPTIONS)


def _line(record: ResultRecord, output: Any) -> dict[str, Any]:
    # orjson writes times and usage natively, in the order of their fields.
    submitted, settled = record.submitted_at, record.settled_at
    return {
        "key": record.key,
        "state": record.state.value,
        "output_text": record.output_text,
        "output": output,
        "error": error_of(record),
        "response_id": record.response_id,
        "model": record.model,
        "service_tier": record.service_tier,
        "status": record.status,
        "attempts": record.attempts,
        "usage": record.usage,
        "cost_usd": _usd(record.cost_pusd),
        "submitted_at": None if submitted is None else datetime.fromtimestamp(submitted, UTC),
        "settled_at": None if settled is None else datetime.fromtimestamp(settled, UTC),
        "reused": record.reused,
        "cost_upper_bound_usd": _usd(record.upper_bound_pusd),
        "cost_estimated": record.cost_estimated,
        "lane": record.lane,
        "flag": record.flag,
        "note": record.note,
        **({} if record.endpoint is None else {"endpoint": record.endpoint}),
        **({} if record.stage == MAIN_STAGE else dict(zip(STAGE_COLUMNS, stage_values(record), strict=True))),
    }


async def write_csv(
    records: AsyncIterator[ResultRecord],
    out: BinaryIO,
    *,
    extra: ExtraColumns | None = None,
    without_formulas: bool = False,
) -> int:
    """Write one row per request under a header, in UTF-8; unknown values are empty. Returns the number of rows.

    ``extra`` columns follow the others. ``without_formulas`` puts an apostrophe before each text that a spreadsheet
    would calculate.
    """
    extra = extra or ExtraColumns()
    kinds = extra.kinds
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([*COLUMNS, *kinds])
    rows = 0
    async for record in records:
        more = zip(extra.values(record), kinds.values(), strict=True) if kinds else ()
        row = [*_csv_row(record), *(_csv_value(value, kind) for value, kind in more)]
        if without_formulas:
            row = [_without_formula(value) for value in row]
        # Without its quotation marks, a carriage return would end the row for every reader.
        (quoting if any(isinstance(value, str) and "\r" in value for value in row) else writer).writerow(row)
        rows += 1
        if text.tell() >= _TEXT_BUFFER:
            out.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    out.write(text.getvalue().encode())
    return rows


def _without_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv_row(record: ResultRecord) -> list[Any]:
    *plain, cost, bound, submitted, settled, reused, estimated, written_12h, lane, flag, note = flat_row(record)
    flags = (_csv_value(flag, Kind.FLAG) for flag in (reused, estimated))
    return [*plain, _usd(cost), _usd(bound), stamp(submitted), stamp(settled), *flags, written_12h, lane, flag, note]


def _csv_value(value: Any, kind: Kind) -> Any:
    return value if kind is not Kind.FLAG or value is None else str(value).lower()


def _usd(amount: Picodollars | None) -> str | None:
    return None if amount is None else format_usd(amount)


async def write_openai_batch(records: AsyncIterator[ResultRecord], out: BinaryIO, *, body_of: BodyOf) -> int:
    """Write lines as in the output file of OpenAI's Batch API, with each response as it was received.

    A request that ended without a response has ``"response": null`` and its code in ``error``. ``request_id`` is the
    provider's id of one HTTP exchange, which is not stored, so it is null.
    """
    rows = 0
    async for record in records:
        body = await body_of(record) if record.response_id else None
        line = {
            "id": f"batch_req_{record.request_id}",
            "custom_id": record.key,
            "response": {"status_code": 200, "request_id": None, "body": _one_line(body)} if body else None,
            "error": None if body else error_of(record),
        }
        out.write(orjson.dumps(line, option=_JSON_OPTIONS))
        rows += 1
    return rows


def _one_line(body: bytes) -> orjson.Fragment:
    # Line breaks inside JSON strings are escaped, so the others are only layout.
    return orjson.Fragment(body.replace(b"\n", b" ").replace(b"\r", b" "))
