"""``run --due``: works on what is due of jobs with a schedule, and does nothing otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.cli.error_messages import report_problem
from orchestrator.cli.output import note, say_json
from orchestrator.core.errors import BadRow, ExitCode, NotScheduled, OrchestratorError, RunBusy, UsageError

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.nights import NightOptions
    from orchestrator.config import Config
    from orchestrator.job.scheduled_job import ScheduledJob
    from orchestrator.job.spec import Job
    from orchestrator.policy.due_nights import DueNight

__all__ = ["RunNight", "refuse_beside_due", "run_due", "worst"]

RunNight: TypeAlias = "Callable[[Job, str | None, NightOptions], Awaitable[ExitCode]]"

_BY_WEIGHT = (
    ExitCode.OK,
    ExitCode.SOME_FAILED,
    ExitCode.HALTED,
    ExitCode.USAGE,
    ExitCode.STORE,
    ExitCode.BUG,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
)
_STOPS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


async def run_due(
    jobs: Sequence[Path], config: Config, database: str | None, run_night: RunNight, *, json: bool
) -> ExitCode:
    """Work on what is due of each job, one after the other; returns the worst of the exit codes.

    What goes wrong with one job does not keep the others from being run.
    """
    from orchestrator.app.api import Orchestrator

    codes = [ExitCode.OK]
    async with Orchestrator(config, database=database) as orchestrator:
        for path in jobs:
            codes.append(
                await _DueRun(path, config, orchestrator, json=json, of_several=len(jobs) > 1).run(run_night)
            )
            if codes[-1] in _STOPS:
                break
    return worst(codes)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The exit code that stands for several."""
    return max(codes, key=_BY_WEIGHT.index)


class _DueRun:
    """One call for one job."""

    def __init__(
        self, path: Path, config: Config, orchestrator: Orchestrator, *, json: bool, of_several: bool
    ) -> None:
        self._of_several = of_several
        self._path = path
        self._config = config
        self._orchestrator = orchestrator
        self._json = json

    async def run(self, run_night: RunNight) -> ExitCode:
        try:
            return await self._work(run_night)
        except RunBusy as error:
            self._say(error.message, None)
            return ExitCode.OK
        except OrchestratorError as error:
            if self._of_several and isinstance(error, NotScheduled):
                self._say(f"{error.message}, so it is left out", None)
                return ExitCode.OK
            if error.exit_code is not ExitCode.USAGE or isinstance(error, BadRow):
                return ExitCode(report_problem(error))
            if not await (await self._orchestrator.due_jobs()).report_broken(self._path, error):
                self._say("cannot be run, as reported before", None)
                return ExitCode.OK
            return ExitCode(report_problem(error))

    async def _work(self, run_night: RunNight) -> ExitCode:
        from orchestrator.job.scheduled_job import read_scheduled_job
        from orchestrator.policy.due_nights import NothingDue

        job, codes = read_scheduled_job(self._path), [ExitCode.OK]
        worked_on: set[str] = set()
        while True:
            due_jobs = await self._orchestrator.due_jobs()
            decision = await due_jobs.decide(job, _now())
            await due_jobs.report_late(job, _now())
            if isinstance(decision, NothingDue):
                await self._check(job)
                if len(codes) == 1:
                    self._say(decision.reason, decision.until)
                return worst(codes)
            codes.append(await self._begin(job, decision, run_night))
            if codes[-1] not in (ExitCode.OK, ExitCode.SOME_FAILED) or str(decision.slot.day) in worked_on:
                return worst(codes)
            worked_on.add(str(decision.slot.day))

    async def _begin(self, job: ScheduledJob, due: DueNight, run_night: RunNight) -> ExitCode:
        from orchestrator.app.nights import NightOptions
        from orchestrator.job.spec import load_job

        spec = load_job(job.path, day=due.slot.day, allow_modules=self._config.allow_modules)
        return await run_night(spec, due.run, NightOptions(due=due))

    async def _check(self, job: ScheduledJob) -> None:
        """Check the whole file if it changed since: what is wrong is reported now, and not in the night."""
        due_jobs = await self._orchestrator.due_jobs()
        if await due_jobs.is_checked(job):
            return
        from orchestrator.job.documents.document import Document
        from orchestrator.job.spec import check_document

        check_document(Document.read(job.path, kind="job"), self._config.allow_modules)
        await due_jobs.note_checked(job)

    def _say(self, reason: str, until: float | None) -> None:
        if self._json:
            from orchestrator.report import formatting

            say_json({"job": str(self._path), "reason": reason, "until": formatting.stamp(until)})
            return
        later = "" if until is None else f"; next at {datetime.fromtimestamp(until, UTC).astimezone():%F %H:%M %Z}"
        note(f"{self._path}: {reason}{later}")


def _now() -> float:
    return datetime.now(UTC).timestamp()


def refuse_beside_due(given: dict[str, object]) -> None:
    """Raises ``UsageError`` for an option that a night which is due decides itself."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} cannot be given with --due", hint="a night that is due is as its job says")
