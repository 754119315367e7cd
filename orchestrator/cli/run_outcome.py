"""How a run ended: its exit code, why rows failed, and the commands worth typing next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from orchestrator.core.states import SETTLED, RunState, State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from orchestrator.app.api import Orchestrator
    from orchestrator.stores.reads import ResultRecord, Summary

__all__ = ["doubt_causes", "enough_usd", "failure_codes", "next_steps", "nothing_sent", "what_is_left"]

_ENOUGH_FAILURES = 10_000


def what_is_left(summary: Summary) -> str:
    """What an unfinished run has received and paid for, and what it has still to do."""
    from orchestrator.report import formatting

    counts = summary.requests
    settled = sum(counts.get(state, 0) for state in SETTLED)
    parts = [(counts.get(State.SUBMITTED, 0), "open at the provider"), (counts.get(State.IN_DOUBT, 0), "in doubt")]
    waiting = sum(counts.get(state, 0) for state in (State.PENDING, State.BLOCKED, State.SUBMITTING))
    known = [f"{number:,} {words}" for number, words in [*parts, (waiting, "waiting")] if number]
    return ", ".join([f"{settled:,} settled for {formatting.dollars(summary.cost_pusd)}", *known])


async def nothing_sent(orchestrator: Orchestrator, summary: Summary) -> str:
    """Why a run without a request has none, with the first skipped row."""
    skipped = await orchestrator.skipped(summary.run.name, most=1)
    if not skipped:
        return "the input has no rows, so nothing was sent; if that may be, say so: input: {may_be_empty: true}"
    first = skipped[0]
    return f"every row was skipped ({summary.skipped_rows:,}), so nothing was sent; {first.where}: {first.reason}"


async def failure_codes(orchestrator: Orchestrator, summary: Summary) -> Mapping[str, int]:
    """Failed requests by code, most frequent first; of very many, the first ten thousand."""
    return await _counted(orchestrator, summary, State.FAILED, lambda record: record.code or "unknown")


async def doubt_causes(orchestrator: Orchestrator, summary: Summary) -> Mapping[str, int]:
    """Requests in doubt by why the reply to their create call is not known, most frequent first."""
    return await _counted(
        orchestrator, summary, State.IN_DOUBT, lambda record: record.message or "the reply was lost"
    )


async def _counted(
    orchestrator: Orchestrator, summary: Summary, state: State, reason_of: Callable[[ResultRecord], str]
) -> Mapping[str, int]:
    reasons: Counter[str] = Counter()
    if summary.requests.get(state, 0):
        records = orchestrator.results(summary.run.name, states=(state,), with_parts=True)
        async with aclosing(cast("AsyncGenerator[ResultRecord]", records)) as found:
            async for record in found:
                reasons[reason_of(record)] += 1
                if reasons.total() == _ENOUGH_FAILURES:
                    break
    return dict(reasons.most_common())


def enough_usd(summary: Summary) -> str | None:
    """A budget for the rest of a run that its budget halted: the cost per row so far, plus a fifth.

    Never less than twice the present one: a few settled rows say little about the others.
    """
    run, counts = summary.run, summary.requests
    if run.reason != "budget" or run.budget_pusd is None:
        return None
    settled = max(1, sum(counts.get(state, 0) for state in SETTLED))
    committed = summary.cost_pusd + summary.cost_unknown_bound.bounded_pusd
    enough = max(2 * run.budget_pusd, committed * sum(counts.values()) * 6 // (5 * settled))
    from orchestrator.core.money import format_usd

    # Two digits are as precise as such an estimate.
    unit = 10 ** max(0, len(str(enough)) - 2)
    return format_usd(-(-enough // unit) * unit)


def next_steps(
    summary: Summary, *, called_as: str, database: str, resume: str, config: str | None = None
) -> list[str]:
    """The commands to type next, one per line: to resume, and to see what went wrong."""
    state, counts = summary.run.state, summary.requests
    options = ["--db", database, *(["--config", config] if config is not None else [])]
    place = shlex.join([summary.run.name, *options])
    steps = []
    if state in {RunState.HALTED, RunState.PAUSED} and counts.get(State.IN_DOUBT, 0):
        steps.append(f"decide what is in doubt:  {called_as} retry {place} --resolve-in-doubt resend")
    if state in {RunState.HALTED, RunState.PAUSED, RunState.ACTIVE}:
        steps.append(f"resume:  {resume}")
    elif state is RunState.FINISHED and counts.get(State.FAILED, 0):
        steps.append(f"see what failed:  {called_as} export {place} --state failed")
        steps.append(f"queue it again:   {called_as} retry {place}")
        steps.append(f"and send it:      {resume}")
    return steps
