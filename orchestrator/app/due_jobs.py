"""What is due of a job with a schedule, and what is reported of one that cannot be run or is late."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from pathlib import Path

from orchestrator.app.run_notices import JobEvent, RunNotices
from orchestrator.core.errors import OrchestratorError
from orchestrator.job.scheduled_job import ScheduledJob, content_hash
from orchestrator.policy.backfill_days import PastRun
from orchestrator.policy.due_nights import DueNight, KnownNight, NothingDue, decide, is_late
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run

__all__ = ["DueJobs"]


class DueJobs:
    """The jobs with a schedule of one database."""

    def __init__(
        self,
        notices: RunNotices,
        *,
        store: Callable[[], Awaitable[Store]],
        reader: Reader | None,
        is_at_work: Callable[[int], bool],
        simulated: bool,
    ) -> None:
        self._notices = notices
        self._store = store
        self._reader = reader
        self._is_at_work = is_at_work
        self._simulated = simulated

    async def decide(self, job: ScheduledJob, now: float) -> DueNight | NothingDue:
        """What is due of a job now."""
        nights = [night for _, night in await self._nights(job)]
        return decide(job.schedule.timetable, job.schedule.catch_up, nights, now)

    async def report_late(self, job: ScheduledJob, now: float) -> None:
        """Notify that the latest night should be finished by now; at most once."""
        table = job.schedule.timetable
        slot = table.latest(now)
        if slot is None:
            return
        run, night = next((each for each in await self._nights(job) if each[1].day == slot.day), (None, None))
        if not is_late(table, slot, night, now):
            return
        summary = None if run is None or self._reader is None else await self._reader.summary(run.id)
        event = JobEvent(
            event="late",
            job=job.name,
            run=run.name if run is not None else f"{job.name}-{slot.day}",
            says=f"is not finished after {job.schedule.late_after}",
            next=f"orchestrator run --due {job.path}",
            once=f"{job.name} {slot.day}",
        )
        await self._notices.announce(event, self._store, summary=summary)

    async def report_broken(self, path: Path, error: OrchestratorError) -> bool:
        """Notify that a job cannot be run as it is; returns False if that was reported before."""
        once = hashlib.blake2b(f"{content_hash(path)} {error}".encode(), digest_size=16).hexdigest()
        place = _place(path)
        name = f"broken_job:{place}"
        if self._reader is not None and await self._reader.recall(name) == once.encode():
            return False
        event = JobEvent(
            event="broken",
            job=path.stem,
            run=path.stem,
            says=f"cannot be run: see {error.where or path}",
            next=f"orchestrator run {path} --dry-run",
            once=f"{place} {once}",
        )
        await self._notices.announce(event, self._store)
        await (await self._store()).remember(name, once.encode())
        return True

    async def is_checked(self, job: ScheduledJob) -> bool:
        """Whether the file was checked as it is now."""
        return self._reader is not None and await self._reader.recall(_checked(job)) == job.content.encode()

    async def note_checked(self, job: ScheduledJob) -> None:
        """Remember that the file is right as it is now."""
        if self._reader is not None:
            await (await self._store()).remember(_checked(job), job.content.encode())

    async def _nights(self, job: ScheduledJob) -> Sequence[tuple[Run, KnownNight]]:
        """The latest run for each day, the newest first."""
        found: dict[date, tuple[Run, KnownNight]] = {}
        for run in [] if self._reader is None else await self._reader.runs():
            if run.day is not None and run.day not in found and self._stands_for_its_day(run, job.name):
                found[run.day] = (run, self._known(run, run.day))
        return [*found.values()]

    async def past_runs(self, job: str) -> dict[date, list[PastRun]]:
        """The runs for each day of a job, the newest first, and what they cost."""
        found: dict[date, list[PastRun]] = {}
        for run in [] if self._reader is None else await self._reader.runs():
            if self._reader is not None and run.day is not None and self._stands_for_its_day(run, job):
                summary = await self._reader.summary(run.id)
                cost = summary.cost_pusd + summary.cost_unknown_bound.bounded_pusd
                past = PastRun(name=run.name, state=run.state, reason=run.reason, cost_pusd=cost)
                found.setdefault(run.day, []).append(past)
        return found

    def _stands_for_its_day(self, run: Run, job: str) -> bool:
        named = re.fullmatch(rf"{job}-{run.day}(-\d+)?", run.name)
        return run.job == job and run.simulated == self._simulated and named is not None

    def _known(self, run: Run, day: date) -> KnownNight:
        return KnownNight(
            day=day,
            run=run.name,
            state=run.state,
            reason=run.reason,
            resume_at=run.resume_at,
            at_work=self._is_at_work(run.id),
        )


def _checked(job: ScheduledJob) -> str:
    return f"checked_job:{_place(job.path)}"


def _place(path: Path) -> str:
    return str(path.resolve())
