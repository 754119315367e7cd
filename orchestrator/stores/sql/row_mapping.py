"""Turns rows of the read queries into the records that readers return."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from typing import Any, TypeAlias

from orchestrator.core.increments import Changes
from orchestrator.core.lanes import Lane
from orchestrator.core.model import Charge, PlanMark, ToolUse, UnitPrice, Usage
from orchestrator.core.money import Bound, Picodollars
from orchestrator.core.states import IN_FLIGHT, RunState, State
from orchestrator.stores.reads import (
    AttemptRecord,
    Continuation,
    CostRow,
    OpenAttempt,
    PendingRequest,
    RequestCounts,
    RequestRecord,
    ResultRecord,
    Run,
    Summary,
    ToolCall,
    Uncosted,
    Wasted,
)
from orchestrator.stores.sql.compression import unpack_body, unpack_row
from orchestrator.stores.sql.connection import Row
from orchestrator.stores.sql.transaction import USAGE

__all__ = [
    "Spent",
    "attempt",
    "cost",
    "delayed",
    "open_attempt",
    "pending",
    "request",
    "result",
    "run",
    "spent",
    "summary",
    "tool_call",
]

_STATES = {state.value: state for state in State}
_LANES = {lane.value: lane for lane in Lane}
_IN_FLIGHT = frozenset(state.value for state in IN_FLIGHT)


def run(row: Row) -> Run:
    return Run(
        id=row["id"],
        name=row["name"],
        uid=row["uid"],
        job=row["job"],
        spec_json=row["spec"],
        fingerprint=row["fingerprint"],
        input_identity=row["input_identity"],
        state=RunState(row["state"]),
        reason=row["reason"],
        budget_pusd=row["budget_pusd"],
        deadline_at=row["deadline_at"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        cancel_requested=bool(row["cancel_requested"]),
        plan=PlanMark(position=row["planned_position"], complete=bool(row["planned_complete"])),
        simulated=bool(row["simulated"]),
        day=None if row["day"] is None else date.fromisoformat(row["day"]),
        resume_at=row["resume_at"],
    )


def summary(run_row: Row, totals: Row, tally: Mapping[str, int], changes: Changes | None = None) -> Summary:
    return Summary(
        run=run(run_row),
        requests=RequestCounts({state: tally.get(state.value, 0) for state in State}),
        skipped_rows=totals["skipped_rows"],
        attempts=totals["attempts"],
        polls=totals["polls"],
        rate_limited=totals["rate_limited"],
        reused=totals["reused"],
        possible_duplicates=totals["possible_duplicates"],
        possible_duplicates_bound=Bound(
            totals["possible_duplicates_upper_bound_pusd"], totals["possible_duplicates_unbounded"]
        ),
        usage=Usage(*(totals[name] for name in USAGE)),
        cost_pusd=totals["cost_pusd"],
        cost_unknown=totals["cost_unknown"],
        cost_unknown_bound=Bound(totals["cost_unknown_upper_bound_pusd"], totals["cost_unbounded"]),
        cost_estimated_pusd=totals["cost_estimated_pusd"],
        reserved_pusd=totals["reserved_pusd"],
        elapsed_s=totals["elapsed_s"],
        changes=changes,
    )


def pending(row: Row) -> PendingRequest:
    return PendingRequest(
        id=row["id"],
        key=row["key"],
        stage=row["stage"],
        where=row["source"],
        attempts=row["attempts"],
        number=row["number"],
        epoch=row["epoch"],
        not_before=row["not_before"],
        max_output_tokens=row["max_output_tokens"],
        row=unpack_row(row["data"]),
    )


def delayed(row: Row) -> PendingRequest:
    """A pending request that was put off, with what it may continue."""
    fields = row["fields"]
    return replace(
        pending(row),
        turn=row["turn"],
        repairs=row["repairs"],
        continuation=None if fields is None else Continuation(fields=fields, context_tokens=row["context_tokens"]),
        chain=row["chain"],
        follows=row["follows"],
        earlier_response_id=row["earlier_response_id"],
        earlier_tokens=row["earlier_tokens"] or 0,
        conversation_id=row["conversation_id"],
        stays_at=row["stays_at"],
        chain_at=row["chain_at"],
    )


def tool_call(row: Row) -> ToolCall:
    return ToolCall(
        attempt_id=row["attempt_id"],
        call_id=row["call_id"],
        place=row["place"],
        name=row["name"],
        arguments=row["arguments"],
        output=row["output"],
        failed=bool(row["failed"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def open_attempt(row: Row) -> OpenAttempt:
    return OpenAttempt(
        attempt_id=row["attempt_id"],
        request_id=row["request_id"],
        key=row["key"],
        stage=row["stage"],
        state=_STATES[row["state"]],
        number=row["number"],
        attempts=row["attempts"],
        epoch=row["epoch"],
        turn=row["turn"],
        repairs=row["repairs"],
        response_id=row["response_id"],
        status=row["status"],
        model=row["model"],
        service_tier=row["service_tier"],
        window=row["completion_window"],
        sent_at=row["sent_at"],
        accepted_at=row["accepted_at"],
        worst_case_pusd=row["worst_case_pusd"],
        adopted=bool(row["adopted"]),
        lane=_LANES[row["lane"]],
        endpoint=row["endpoint"],
    )


def request(row: Row) -> RequestRecord:
    return RequestRecord(
        id=row["id"],
        key=row["key"],
        stage=row["stage"],
        where=row["source"],
        state=_STATES[row["state"]],
        code=row["code"],
        message=row["message"],
        row=unpack_row(row["data"]),
        not_before=row["not_before"],
        settled_at=row["settled_at"],
        max_output_tokens=row["max_output_tokens"],
        turn=row["turn"],
        continuation=row["continuation"],
        chain=row["chain"],
        follows=row["follows"],
        earlier_response_id=row["earlier_response_id"],
        conversation_id=row["conversation_id"],
        answered_by=row["answered_by"],
        answered_in=row["answered_in"],
        answered_as=row["answered_as"],
    )


def attempt(row: Row) -> AttemptRecord:
    return AttemptRecord(
        id=row["id"],
        number=row["number"],
        counted=bool(row["counted"]),
        idempotency_key=row["idempotency_key"],
        response_id=row["response_id"],
        status=row["status"],
        http_status=row["http_status"],
        model=row["model"],
        service_tier=row["service_tier"],
        code=row["code"],
        message=row["message"],
        sent_at=row["sent_at"],
        accepted_at=row["accepted_at"],
        completed_at=row["completed_at"],
        ended_at=row["ended_at"],
        possible_duplicate=bool(row["possible_duplicate"]),
        worst_case_pusd=row["worst_case_pusd"],
        charge=_charge(row) if row["charged"] else None,
        output_text=row["output_text"],
        body=unpack_body(row["body"], row["output_text"], row["response_id"]) if row["body"] is not None else None,
        deleted_at=row["deleted_at"],
        lane=_LANES[row["lane"]],
        endpoint=row["endpoint"],
    )


def _charge(row: Row) -> Charge:
    return Charge(
        usage=Usage(*(row[name] for name in USAGE)) if row["input_tokens"] is not None else None,
        cost_pusd=row["cost_pusd"],
        upper_bound_pusd=row["upper_bound_pusd"],
        price=_price(row) if row["price_id"] is not None else None,
        tool_use=ToolUse(**{field.name: row[field.name] for field in fields(ToolUse)}),
        image_pusd=row["image_pusd"],
    )


def _price(row: Row) -> UnitPrice:
    return UnitPrice(
        model=row["price_model"],
        tier=row["tier"],
        input=row["input"],
        cached=row["cached"],
        cache_write=row["cache_write"],
        cache_write_12h=row["cache_write_12h"],
        output=row["output"],
        source=row["source"],
        version=row["version"],
        fee_web_search=row["fee_web_search"],
        fee_file_search=row["fee_file_search"],
        fee_code_session=row["fee_code_session"],
        estimated=bool(row["estimated"]),
    )


def cost(row: Row, by: Sequence[str]) -> CostRow:
    # The values of metadata come as one array, in the order in which they were asked for.
    metadata = iter(map(str, json.loads(row["metadata"])))
    return CostRow(
        group=tuple(next(metadata) if grouping.startswith("metadata.") else row[grouping] for grouping in by),
        responses=row["responses"],
        usage=Usage(*(row[name] for name in USAGE)),
        cost_pusd=row["cost_pusd"],
        cost_unknown=row["cost_unknown"],
        unknown_bound=Bound(row["upper_bound_pusd"], row["cost_unbounded"]),
        estimated_pusd=row["cost_estimated_pusd"],
        wasted=Wasted(
            failed=row["wasted_failed"],
            incomplete=row["wasted_incomplete"],
            empty=row["wasted_empty"],
            duplicate=row["wasted_duplicate"],
        ),
        possible_duplicates=row["possible_duplicates"],
        possible_duplicates_bound=Bound(
            row["possible_duplicates_upper_bound_pusd"], row["possible_duplicates_unbounded"]
        ),
        cache_saved_pusd=row["cache_saved_pusd"],
    )


def uncosted(row: Row) -> Uncosted:
    return Uncosted(
        attempt_id=row["attempt_id"],
        response_id=row["response_id"],
        model=row["model"],
        service_tier=row["service_tier"],
        window=row["completion_window"],
        sent_at=row["sent_at"],
        upper_bound_pusd=row["upper_bound_pusd"],
        endpoint=row["endpoint"],
    )


# ── results: read by the million, so by place and not by name ─────────────────────────────────────────────────

# What the attempts before the latest one used and cost together: usage if any, known cost, how many costs are
# unknown, the upper bound of those if all have one, possible duplicates, whether a cost is estimated.
Spent: TypeAlias = tuple[Usage | None, Picodollars, int, Picodollars | None, int, bool]


def spent(row: Row) -> Spent:
    return (
        Usage(*(row[name] for name in USAGE)) if row["with_usage"] else None,
        row["cost_pusd"],
        row["cost_unknown"],
        None if row["cost_unbounded"] else row["upper_bound_pusd"],
        row["possible_duplicates"],
        bool(row["estimated"]),
    )


def result(row: tuple[Any, ...], before: Spent | None) -> ResultRecord:
    """One result; ``row`` has the columns of the query ``results``, in their order."""
    # fmt: off
    (
        request_id, key, stage, state, code, message, number, response_id, status, model, service_tier, output_text,
        charged, cost_pusd, upper_bound_pusd, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
        reasoning_tokens, total_tokens, cache_write_12h_tokens, estimated, possible_duplicate, worst_case_pusd,
        sent_at, settled_at, reused, lane, endpoint, flag, note, is_group, rows_missing,
    ) = row
    # fmt: on
    usage = None
    if input_tokens is not None:
        usage = Usage(
            input_tokens,
            cached_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
            total_tokens,
            cache_write_12h_tokens,
        )
    # An open attempt may cost its worst case; an ended one without a charge cost nothing.
    known, unknown, bound = cost_pusd or 0, charged and cost_pusd is None, upper_bound_pusd
    if state in _IN_FLIGHT:
        unknown, bound = True, worst_case_pusd
    duplicates = possible_duplicate or 0
    if before is not None:
        usage_before, known_before, unknown_before, bound_before, duplicates_before, estimated_before = before
        estimated = estimated or estimated_before
        if usage_before is not None:
            usage = usage_before if usage is None else usage + usage_before
        known += known_before
        duplicates += duplicates_before
        if unknown_before:
            bound = _sum(bound, bound_before) if unknown else bound_before
            unknown = True
    return ResultRecord(
        request_id=request_id,
        key=key,
        stage=stage,
        state=_STATES[state],
        code=code,
        message=message,
        attempts=number,
        response_id=response_id,
        status=status,
        model=model,
        service_tier=service_tier,
        output_text=output_text,
        usage=usage,
        cost_pusd=None if unknown else known,
        upper_bound_pusd=_sum(known, bound) if unknown else None,
        possible_duplicates=duplicates,
        submitted_at=sent_at,
        settled_at=settled_at,
        reused=bool(reused),
        cost_estimated=bool(estimated),
        lane=None if lane is None else _LANES[lane],
        endpoint=endpoint,
        flag=flag,
        note=note or None,
        is_group=bool(is_group),
        rows_missing=rows_missing,
    )


def _sum(one: Picodollars | None, other: Picodollars | None) -> Picodollars | None:
    return None if one is None or other is None else one + other
