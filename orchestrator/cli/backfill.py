"""``run --backfill``: a run for each day of a range, the oldest first, within one budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.cli.due import worst
from orchestrator.cli.output import note
from orchestrator.core.errors import ExitCode, RunNotFound, UsageError
from orchestrator.core.money import format_usd
from orchestrator.core.states import RunState

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.job.spec import Job
    from orchestrator.stores.reads import Summary

__all__ = ["days_of", "run_backfill"]

_MOST_DAYS = 3_660
_CONTINUES = (ExitCode.OK, ExitCode.SOME_FAILED)


def days_of(text: str) -> list[date]:
    """The days of ``2026-11-01..2026-11-15``, both included; raises ``UsageError``."""
    first, separator, last = text.partition("..")
    try:
        begin, end = date.fromisoformat(first.strip()), date.fromisoformat(last.strip())
    except ValueError:
        separator = ""
        begin = end = date.min
    if not separator or begin > end:
        raise UsageError(f"--backfill {text} is no range of days", hint="write it as 2026-11-01..2026-11-15")
    if (end - begin).days >= _MOST_DAYS:
        raise UsageError(f"--backfill {text} has more than {_MOST_DAYS:,} days", hint="name a shorter range")
    return [begin + timedelta(days=days) for days in range((end - begin).days + 1)]


async def run_backfill(
    days: Sequence[date],
    load: Callable[[date], Job],
    orchestrator: Orchestrator,
    run_day: Callable[[Job], Awaitable[ExitCode]],
) -> ExitCode:
    """Run each day that is not finished; stops at the first that does not end. Returns the worst exit code.

    The budget of the job is that of all days together: each has what the others have not spent.
    """
    codes = [ExitCode.OK]
    jobs = {day: load(day) for day in days}
    _refuse_the_same(list(jobs.values()))
    names = {day: str(job.named_run(None, new=False)) for day, job in jobs.items()}
    for day, job in jobs.items():
        known = await _summary(orchestrator, names[day])
        if known is not None and known.run.state in (RunState.FINISHED, RunState.CANCELLED):
            note(f"{names[day]} is {known.run.state.value}")
            continue
        others = [await _summary(orchestrator, name) for each, name in names.items() if each != day]
        codes.append(await run_day(_within(job, [each for each in others if each is not None])))
        if codes[-1] not in _CONTINUES:
            break
    return worst(codes)


def _refuse_the_same(jobs: Sequence[Job]) -> None:
    """Raise ``UsageError`` if each day would pay for the same requests."""
    first, last = jobs[0], jobs[-1]
    pays_again = first.increments is None and first.reuse == "never"
    if first is not last and pays_again and first.fingerprint() == last.fingerprint():
        raise UsageError(
            "nothing of this job depends on the day, so each day would ask the same rows again",
            hint="use {{ run.date }} in its input, or give it increments",
        )


async def _summary(orchestrator: Orchestrator, name: str) -> Summary | None:
    if not await orchestrator.database_exists():
        return None
    try:
        return await orchestrator.status(name)
    except RunNotFound:
        return None


def _within(job: Job, others: Sequence[Summary]) -> Job:
    """The job with what the other days have left of its budget; raises ``UsageError`` if that is nothing."""
    if job.budget is None or job.budget_pusd is None:
        return job
    spent = sum(each.cost_pusd + each.cost_unknown_bound.bounded_pusd for each in others)
    left = job.budget_pusd - spent
    if left <= 0:
        raise UsageError(
            f"the budget of ${format_usd(job.budget_pusd)} is used: the other days cost ${format_usd(spent)}",
            hint="raise it for this backfill: --set budget.usd=…",
        )
    return job.model_copy(update={"budget": job.budget.model_copy(update={"usd": Decimal(format_usd(left))})})
