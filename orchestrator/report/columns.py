"""One result as a row of plain values: the columns of CSV and Parquet."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import State
from orchestrator.stores.reads import ResultRecord

__all__ = ["COLUMNS", "STAGE_COLUMNS", "Kind", "columns_of", "error_of", "flat_row", "stage_values"]


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


# What follows them for a run with stages.
STAGE_COLUMNS = {"stage": Kind.TEXT, "rows_missing": Kind.COUNT}


def columns_of(*, staged: bool) -> dict[str, Kind]:
    """Returns the columns of an export, with those of stages if the run has some."""
    return {**COLUMNS, **STAGE_COLUMNS} if staged else COLUMNS


def error_of(record: ResultRecord) -> dict[str, str] | None:
    """Returns ``{"code", "message"}`` of a request that did not succeed, and the ``"stage"`` where that was."""
    if record.state is State.SUCCEEDED or record.code is None:
        return None
    stage = {} if record.stage == MAIN_STAGE else {"stage": record.stage}
    return {"code": record.code, "message": record.message or "", **stage}


def stage_values(record: ResultRecord) -> tuple[str, int]:
    """Returns the values of ``STAGE_COLUMNS``, in order."""
    return record.stage, record.rows_missing


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
