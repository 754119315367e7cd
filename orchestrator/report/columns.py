"""One result as a row of plain values: the columns of CSV and Parquet."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from orchestrator.core.states import State
from orchestrator.stores.reads import ResultRecord

__all__ = ["COLUMNS", "Kind", "error_of", "flat_row"]


class Kind(StrEnum):
    """The kind of a column; money is in picodollars and time in Unix seconds until it is written."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    FLAG = "flag"
    MONEY = "money"
    TIME = "time"
    JSON = "json"


COLUMNS = {
    "key": Kind.TEXT,
    "state": Kind.TEXT,
    "output_text": Kind.TEXT,
    "error_code": Kind.TEXT,
    "error_message": Kind.TEXT,
    "response_id": Kind.TEXT,
    "model": Kind.TEXT,
    "service_tier": Kind.TEXT,
    "status": Kind.TEXT,
    "attempts": Kind.COUNT,
    "input_tokens": Kind.COUNT,
    "cached_tokens": Kind.COUNT,
    "cache_write_tokens": Kind.COUNT,
    "output_tokens": Kind.COUNT,
    "reasoning_tokens": Kind.COUNT,
    "total_tokens": Kind.COUNT,
    "possible_duplicates": Kind.COUNT,
    "cost_usd": Kind.MONEY,
    "cost_upper_bound_usd": Kind.MONEY,
    "submitted_at": Kind.TIME,
    "settled_at": Kind.TIME,
    "reused": Kind.FLAG,
    "cost_estimated": Kind.FLAG,
    "cache_write_12h_tokens": Kind.COUNT,
    "lane": Kind.TEXT,
    "flag": Kind.TEXT,
    "note": Kind.TEXT,
}


def error_of(record: ResultRecord) -> dict[str, str] | None:
    """Returns ``{"code", "message"}`` of a request that did not succeed."""
    if record.state is State.SUCCEEDED or record.code is None:
        return None
    return {"code": record.code, "message": record.message or ""}


def flat_row(record: ResultRecord) -> tuple[Any, ...]:
    """Returns the values of ``COLUMNS``, in order; ``None`` for unknown ones."""
    error, usage = error_of(record), record.usage
    return (
        record.key,
        record.state.value,
        record.output_text,
        error["code"] if error else None,
        error["message"] if error else None,
        record.response_id,
        record.model,
        record.service_tier,
        record.status,
        record.attempts,
        usage.input_tokens if usage else None,
        usage.cached_tokens if usage else None,
        usage.cache_write_tokens if usage else None,
        usage.output_tokens if usage else None,
        usage.reasoning_tokens if usage else None,
        usage.total_tokens if usage else None,
        record.possible_duplicates,
        record.cost_pusd,
        record.upper_bound_pusd,
        record.submitted_at,
        record.settled_at,
        record.reused,
        record.cost_estimated,
        usage.cache_write_12h_tokens if usage else None,
        record.lane,
        record.flag,
        record.note,
    )
