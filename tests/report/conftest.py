"""Builders of what the store would hand to a report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.core.model import PlanMark, Usage
from orchestrator.core.money import Bound
from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import RequestCounts, ResultRecord, Run, Summary

USAGE = Usage(
    input_tokens=1000,
    cached_tokens=200,
    cache_write_tokens=10,
    output_tokens=50,
    reasoning_tokens=20,
    total_tokens=1050,
)


@pytest.fixture
def a_summary() -> Callable[..., Summary]:
    def build(*, run: dict[str, Any] | None = None, **changes: Any) -> Summary:
        base = Run(
            id=1,
            name="nightly-1",
            uid="u",
            job="nightly",
            spec_json="{}",
            fingerprint="f",
            input_identity="i",
            state=RunState.FINISHED,
            reason=None,
            budget_pusd=5 * 10**12,
            deadline_at=None,
            created_at=1_795_291_200.0,
            ended_at=None,
            cancel_requested=False,
            plan=PlanMark(position=3, complete=True),
        )
        summary = Summary(
            run=replace(base, **(run or {})),
            requests=RequestCounts({State.SUCCEEDED: 1860, State.FAILED: 3}),
            skipped_rows=0,
            attempts=1870,
            polls=4100,
            rate_limited=12,
            reused=0,
            possible_duplicates=0,
            possible_duplicates_bound=Bound(0),
            usage=USAGE,
            cost_pusd=1_234_567_000_000,
            cost_unknown=0,
            cost_unknown_bound=Bound(0),
            reserved_pusd=0,
            elapsed_s=41.23456,
        )
        return replace(summary, **changes)

    return build


@pytest.fixture
def a_result() -> Callable[..., ResultRecord]:
    def build(**changes: Any) -> ResultRecord:
        record = ResultRecord(
            request_id=7,
            key="row-1",
            stage="main",
            state=State.SUCCEEDED,
            code=None,
            message=None,
            attempts=1,
            response_id="resp_a",
            status="completed",
            model="gpt-5-mini-2025-08-07",
            service_tier="default",
            output_text='Grüße,\n"you"',
            usage=USAGE,
            cost_pusd=1_000_000,
            upper_bound_pusd=None,
            possible_duplicates=0,
            submitted_at=1_795_291_200.25,
            settled_at=1_795_291_203.75,
            lane=Lane.BACKGROUND,
        )
        return replace(record, **changes)

    return build


@pytest.fixture
def stream() -> Callable[[Iterable[ResultRecord]], AsyncIterator[ResultRecord]]:
    async def records(values: Iterable[ResultRecord]) -> AsyncIterator[ResultRecord]:
        for value in values:
            yield value

    return records
