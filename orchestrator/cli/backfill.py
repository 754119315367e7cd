"""``run --backfill``: a run for each day of a range, the oldest first, within one budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.cli.due import worst
from orchestrator.cli.output import note
from orchestrator.core.errors import ExitCode, UsageError
from orchestrator.core.money import Picodollars, format_usd

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.job.spec import Job

__all__ = ["RunDay", "days_of", "run_backfill"]

# Runs the job of a day under a name; the last argument is what the other days have used of its budget.
RunDay: TypeAlias = "Callable[[Job, str, Picodollars], Awaitable[ExitCode]]"

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
    days: Sequence[date], load: Callable[[date], Job], orchestrator: Orchestrator, run_day: RunDay
) -> ExitCode:
    """Run each day that is not finished; stops at the first that does not end. Returns the worst exit code.

    The budget of the job is that of all days together: each has what the others have not spent.
    """
    from orchestrator.policy.backfill_days import cost_of_others, run_of_day

    codes = [ExitCode.OK]
    jobs = _with_nights({day: load(day) for day in days})
    job = next(iter(jobs.values()))
    _refuse_the_same(list(jobs.values()))
    await _refuse_to_take_over(orchestrator, job, list(jobs))
    for day, job in jobs.items():
        past = await (await orchestrator.due_jobs()).past_runs(job.name)
        name = run_of_day(job.name, day, past)
        if name is None:
            note(f"{past[day][0].name} is {past[day][0].state.value}")
            continue
        spent = cost_of_others(list(jobs), past, name)
        if job.budget_pusd is not None and spent >= job.budget_pusd:
            _say_used_up(name, job.budget_pusd, spent)
            codes.append(ExitCode.HALTED)
        else:
            codes.append(await run_day(job, name, spent))
        if codes[-1] not in _CONTINUES:
            break
    return worst(codes)


def _with_nights(jobs: dict[date, Job]) -> dict[date, Job]:
    """The days that have a night, if the job has a schedule; raises ``UsageError`` if that is none."""
    first = next(iter(jobs.values()))
    if first.schedule is None:
        return jobs
    table = first.schedule.timetable
    found = {day: job for day, job in jobs.items() if table.slot_of(day) is not None}
    if not found:
        raise UsageError(
            f"no day of the range is in the schedule of {first.name}", hint=f"it is due at {first.schedule.at!r}"
        )
    return found


def _refuse_the_same(jobs: Sequence[Job]) -> None:
    """Raise ``UsageError`` if each day would pay for the same requests."""
    first, last = jobs[0], jobs[-1]
    pays_again = first.increments is None and first.reuse == "never"
    if first is not last and pays_again and first.fingerprint() == last.fingerprint():
        raise UsageError(
            "nothing of this job depends on the day, so each day would ask the same rows again",
            hint="use {{ run.date }} in its input, or give it increments",
        )


async def _refuse_to_take_over(orchestrator: Orchestrator, job: Job, days: Sequence[date]) -> None:
    """Raise ``UsageError`` if a night of another day is unfinished: the first day would take it over.

    What it has not sent is then in the files of another day, which the backfill does not read.
    """
    from orchestrator.policy.backfill_days import unfinished_outside

    other = unfinished_outside(days, await (await orchestrator.due_jobs()).past_runs(job.name))
    if other is not None and job.increments is not None:
        raise UsageError(f"{other} of another day is not finished", hint=f"orchestrator resume {other}, or cancel it")


def _say_used_up(name: str, budget_pusd: Picodollars, spent_pusd: Picodollars) -> None:
    spent = f"the other days cost ${format_usd(spent_pusd)}"
    note(f"{name} is not worked on: the budget of ${format_usd(budget_pusd)} is used: {spent}")
    note("  raise it for this backfill: --set budget.usd=…")
