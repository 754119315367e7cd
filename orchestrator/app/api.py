"""The Python API: runs jobs, and reports on them.

What only ``run``, ``cancel`` and ``doctor`` need (engine, provider, templates, prices) is imported by them, so that
``status`` and its like answer at once.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import anyio

from orchestrator.app.histories import history_of
from orchestrator.app.stage_summaries import (
    check_stage,
    grouping_stages,
    note_exported,
    row_of,
    states_by_stage,
    with_stages,
)
from orchestrator.core.clock import Clock, SystemClock
from orchestrator.core.errors import OrchestratorError, OutdatedDatabase, RunBusy, RunNotFound, StoreError, UsageError
from orchestrator.core.events import Observer, Progress, RunEnded, RunEvent
from orchestrator.core.model import SkippedRow
from orchestrator.core.states import SETTLED, RunState, State
from orchestrator.stores.backends import open_backend
from orchestrator.stores.base import DEFAULT_DATABASE, Reader, RunReader, Store
from orchestrator.stores.cost_groupings import check_groupings
from orchestrator.stores.datasets import find_dataset
from orchestrator.stores.reads import CostRow, ResultRecord, Run, Summary
from orchestrator.stores.request_history import RequestHistory
from orchestrator.stores.retained import Retained
from orchestrator.stores.writes import Requeue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from orchestrator.app.doctor import Finding
    from orchestrator.app.dry_run import DryRun
    from orchestrator.app.due_jobs import DueJobs
    from orchestrator.app.execution import Execution
    from orchestrator.app.follow import LiveEvent
    from orchestrator.app.forecast.estimates import Forecast
    from orchestrator.app.forecast.forecaster import Exact, Forecaster
    from orchestrator.app.forecast.pipeline_forecast import PipelineForecaster
    from orchestrator.app.nights import NightOptions
    from orchestrator.app.reconcile.matching import Reconciliation
    from orchestrator.app.retention.purge import Purged
    from orchestrator.app.retention.service import RetentionService
    from orchestrator.app.run_results import Results
    from orchestrator.app.supervisor import WorkerCommand
    from orchestrator.app.wiring import Work
    from orchestrator.config import Config
    from orchestrator.core.increments import Comparison
    from orchestrator.engine.lane_notes import LaneNote
    from orchestrator.engine.loop import Ended
    from orchestrator.engine.runs import JobIdentity
    from orchestrator.job.spec import Job
    from orchestrator.stores.provider_batches import ProviderBatch

__all__ = ["Orchestrator", "RequestHistory"]

_CANCEL_CHECK_S = 0.5


class Orchestrator:
    """Runs jobs and reports on them; use it as an async context manager.

    Opening it touches nothing: the database is opened by the first call that needs it, and the provider only by
    ``run`` and ``cancel``. ``observers`` are called with each event of a run (``core.events``); ``progress`` holds
    the live counts of the current run. Without a config, it is OpenAI's own API with the defaults.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        database: str | Path | None = None,
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._given_config = config
        default = config.database if config is not None else DEFAULT_DATABASE
        self._backend = open_backend(database if database is not None else default)
        self._observers = tuple(observers)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._resources = AsyncExitStack()
        self._reader: Reader | None = None
        self._store: Store | None = None
        self._execution: Execution | None = None
        # A stop may come while the input is still being checked, before there is an execution to stop.
        self._stopped = False
        self.progress = Progress()

    async def __aenter__(self) -> Self:
        await self._resources.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled close would leave the database's thread answering an event loop that is gone.
        with anyio.CancelScope(shield=True):
            await self._resources.__aexit__(kind, error, trace)

    @property
    def database(self) -> str:
        """The address of the database."""
        return self._backend.address

    async def database_exists(self) -> bool:
        """Whether there is a database yet; the first run creates it."""
        return await self._backend.exists()

    async def prepare_database(self) -> None:
        """Create the database if it is absent, and upgrade an older one, so that others can read it at once."""
        await self._open_store()

    async def check_target(self, path: Path, *, run: str | None = None, job: Job | None = None) -> None:
        """Raise ``UsageError`` if an output must not be written to a file.

        That is where none can be written, and what would be lost: the database with all that belongs to it, the
        config, and the job with its input, given as the ``job`` or as that of a ``run``.
        """
        from orchestrator.app.protected_files import protected_files
        from orchestrator.report.output_file import check_target

        if run is not None:
            job = await self.job_of(run)
        files = protected_files(self._backend.local_path, config=self._given_config, job=job)
        await anyio.to_thread.run_sync(check_target, path, files)

    # ── working ───────────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self,
        job: Job,
        *,
        name: str | None = None,
        new: bool = False,
        night: NightOptions | None = None,
        accept_expired: bool = False,
        until: str | None = None,
        workers: WorkerCommand | None = None,
    ) -> Summary:
        """Run a job, or resume it where an earlier process stopped; ``night`` is for a job with increments.

        ``accept_expired`` requests again what the provider does not know, even if it knows no response of the run.
        ``until`` is a stage: only it and those that it needs are asked, and the next call continues with the others.
        ``workers`` are processes that do most of it; they are started and watched here.

        Returns when every row is settled, when something halts the run, or soon after ``stop``. Raises ``BadRow``,
        ``SpecError``, ``RunChanged``, ``RunBusy``, ``StoreError``, ``ConfigError`` or ``ProviderUnreachable``.
        """
        from orchestrator.app.run_start import job_identity, refuse_hopeless
        from orchestrator.app.split_runs import refuse_split
        from orchestrator.app.wiring import function_tools, work_of
        from orchestrator.job.stages.stage_jobs import stages_until
        from orchestrator.job.stream_limit import refuse_bulk

        if until is not None:
            stages_until(job, until)
        if workers is not None:
            refuse_split(job, self._config)
        self._config.check_keys(os.environ)  # a missing key is reported before a database is created
        self._stopped = False
        work = work_of(self._config, job, may_be_unstored=self._config.provider.store == "optional")
        renderer = work.renderer
        await anyio.to_thread.run_sync(partial(refuse_hopeless, job, renderer, self._config, now=self._clock.now()))
        await anyio.to_thread.run_sync(refuse_bulk, job)
        work = replace(work, tools=function_tools(job, self._config), accept_expired=accept_expired, until=until)
        identity = await anyio.to_thread.run_sync(job_identity, job, self._config)
        name = job.named_run(name, new=new)
        if night is not None and night.due is not None:
            identity = replace(identity, closes_at=night.due.closes_at)
        if night is not None:
            work = replace(work, shared_cost_pusd=night.shared_cost_pusd)
        return await self._carry_out(work, identity, name=name, new=new, night=night, workers=workers)

    async def work(self, run: str | None = None) -> Ended | None:
        """Work on the shards of a run that no other process holds, and leave the rest: as one of several workers.

        Without a name it is the newest run that is not over. Returns how that ended; None if no shard was left.
        """
        from orchestrator.app.split_runs import refuse_split
        from orchestrator.app.stored_job import stored_job
        from orchestrator.app.wiring import function_tools, work_of

        record = await self._unfinished() if run is None else await self._find(run)
        if record is None or record.state in (RunState.FINISHED, RunState.CANCELLED):
            return None
        self._config.check_keys(os.environ)
        self._stopped = False
        job = await stored_job(await self._open_reader(), record)
        refuse_split(job, self._config)
        work = work_of(self._config, job, may_be_unstored=self._config.provider.store == "optional")
        work = replace(work, tools=function_tools(job, self._config))
        return await (await self._start_execution()).work_on_shards(record, work)

    async def _unfinished(self) -> Run | None:
        runs = await (await self._open_reader()).runs()
        return next((each for each in runs if each.state is RunState.ACTIVE), None)

    async def resume(self, run: str) -> Summary:
        """Finish a run with the job and the rows that the database has; raises as ``run``.

        Its input is read only if an earlier process did not reach its end: then it must be there, and unchanged.
        """
        from orchestrator.app.run_start import stored_identity
        from orchestrator.app.stored_job import stored_job
        from orchestrator.app.wiring import function_tools, work_of

        record = await self._find(run)
        if record.state in (RunState.FINISHED, RunState.CANCELLED):
            return await self.status(run)
        self._config.check_keys(os.environ)
        self._stopped = False
        job = await stored_job(await self._open_reader(), record)
        identity = await anyio.to_thread.run_sync(stored_identity, record, job, self._config)
        work = work_of(self._config, job, may_be_unstored=self._config.provider.store == "optional")
        work = replace(work, tools=function_tools(job, self._config))
        return await self._carry_out(work, identity, name=run)

    async def _carry_out(
        self,
        work: Work,
        identity: JobIdentity,
        *,
        name: str | None,
        new: bool = False,
        night: NightOptions | None = None,
        workers: WorkerCommand | None = None,
    ) -> Summary:
        execution = await self._start_execution()
        carried = await execution.run(work, identity, name=name, new=new, night=night, workers=workers)
        ended = carried.ended
        if ended is not None and ended.error is not None:
            raise ended.error
        summary = await self.status(carried.run)
        if ended is not None:
            reason = ended.message or ended.reason
            self._observe(RunEnded(run=carried.run, state=summary.run.state, reason=reason))
        return summary

    def stop(self) -> None:
        """Send nothing new and return from ``run`` soon; everything on disk stays true and resumable."""
        self._stopped = True
        if self._execution is not None:
            self._execution.interrupt()

    async def cancel(self, run: str) -> Summary:
        """Cancel what is pending, and what is open at the provider; late answers are taken and accounted."""
        record = await self._find(run)
        store = await self._open_store()
        await store.request_cancel(record.id, self._clock.now())
        if self._backend.is_locked(record.id):
            await self._until_settled(record)
            return await self.status(run)
        await (await self._start_execution()).cancel(await self._find(run))
        return await self.status(run)

    async def cancel_rows(self, run: str, keys: Sequence[str], *, stage: str | None = None) -> dict[str, State]:
        """Cancel single rows by their keys, of one stage or of the one that has them; returns the state of each now.

        A row that waits is cancelled at once; an open response is cancelled at the provider, and the next poll of the
        run settles its row. Raises ``RunNotFound`` for an unknown key, ``UsageError`` for a row that is in doubt.
        """
        from orchestrator.app.single_rows import RowCanceller

        record = await self._find(run)
        canceller = RowCanceller(
            self._config,
            self._backend.local_path,
            store=await self._open_store(),
            reader=await self._open_reader(),
            clock=self._clock,
        )
        return await canceller.cancel(record, keys, stage=stage)

    async def retry(
        self,
        run: str,
        *,
        states: Sequence[State] = (State.FAILED,),
        code: str | None = None,
        flag: str | None = None,
        resolve_in_doubt: str | None = None,
        stage: str | None = None,
    ) -> int:
        """Queue settled requests again, by state, code, flag and stage; returns how many. ``run`` sends them.

        Groups that failed for want of them wait for them again. Raises ``UsageError`` if no request in these states
        has the code, no row has the flag, or the run has no such stage.
        """
        record = await self._find(run)
        check_stage(record, stage)
        if code is not None:
            await self._check_code(record, code, (*states, State.IN_DOUBT) if resolve_in_doubt else states)
        if flag is not None:
            await self._check_flag(record, flag)
        lost = await (await self._open_reader()).without_data(record.id, states, code, flag=flag)
        if lost:
            raise UsageError(
                f"{lost:,} of these requests cannot be sent again: the data of their rows was dropped",
                hint="run the job again for them, and say `inputs: keep` under retention to be able to retry",
            )
        store = await self._open_store()
        with self._backend.lock(record.id, record.name):
            return await store.requeue(
                Requeue(
                    run_id=record.id,
                    states=states,
                    code=code,
                    flag=flag,
                    resolve_in_doubt=resolve_in_doubt,
                    stage=stage,
                    at=self._clock.now(),
                )
            )

    async def _check_code(self, run: Run, code: str, states: Sequence[State]) -> None:
        codes: Counter[str] = Counter()
        async with aclosing(
            cast("AsyncGenerator[ResultRecord]", self.results(run.name, states=states, with_parts=True))
        ) as ended:
            async for record in ended:
                if record.code == code:
                    return
                codes[record.code or "none"] += 1
        known = ", ".join(f"{each} {number:,}" for each, number in codes.most_common()) or "none"
        raise UsageError(f"no request of {run.name} has ended with the code {code!r}", hint=f"its codes: {known}")

    async def _check_flag(self, run: Run, flag: str) -> None:
        async with self._backend.open_view() as reader:
            flags = await reader.flags_of_run(run.id)
        if flag not in flags:
            raise UsageError(
                f"no row of {run.name} has the flag {flag!r}", hint=f"its flags: {', '.join(flags) or 'none'}"
            )

    async def remove(self, run: str) -> None:
        """Remove a run from the database with all that belongs to it; the budgets still count what it spent.

        Requests of other runs keep the answers that they share with it. What the provider keeps is not deleted: see
        ``purge``. Raises ``UsageError`` if a request of it is open or in doubt, or if a dataset or another run needs
        it; ``RunBusy`` if another process holds it.
        """
        from orchestrator.app.remove_run import remove_run

        record = await self._find(run)
        store = await self._open_store()
        with self._backend.lock(record.id, record.name):
            await remove_run(record, store=store, reader=await self._open_reader())

    async def exported(self, run: str, *, stage: str | None = None) -> None:
        """Note that all results of a finished run are in a file; what its retention waits for happens, or is due.

        With a ``stage``, only those of that stage are: the run is exported when all of its stages are.
        """
        record = await self._find(run)
        check_stage(record, stage)
        retention = await self._retention()
        with self._backend.lock(record.id, record.name):
            if await note_exported(record, stage, store=await self._open_store(), reader=await self._open_reader()):
                await retention.exported(record)

    async def purge(self, run: str) -> Purged:
        """Delete what the provider keeps of a run that is over: responses, conversations, uploaded files.

        What is gone is on disk, so it may be interrupted and repeated. Raises ``UsageError`` if the run is not
        over, or the config names another provider than the run's; ``RunBusy`` if another process holds it.
        """
        record = await self._find(run)
        retention = await self._retention()
        with self._backend.lock(record.id, record.name):
            return await retention.purge(record)

    async def purge_rows(self, run: str, keys: Sequence[str], *, stage: str | None = None) -> Purged:
        """Delete what the provider keeps of single rows that are settled; the run need not be over."""
        record = await self._find(run)
        retention = await self._retention()
        with self._backend.lock(record.id, record.name):
            return await retention.purge_rows(record, keys, stage=stage)

    async def purge_due(self) -> AsyncIterator[tuple[str, Purged | OrchestratorError]]:
        """Do what the retention of each run says is due, the newest run first; those with nothing due are left out.

        What cannot be done for one run (of another provider, or held by another process) does not stop the others.
        """
        retention = await self._retention()
        for record in await (await self._open_reader()).runs():
            # Checked before the run is locked: most have nothing due, and another process may want to resume them.
            due = await retention.due(record)
            if due is None:
                continue
            try:
                with self._backend.lock(record.id, record.name):
                    purged = await retention.purge_due(record, due)
            except RunBusy:
                continue
            except OrchestratorError as error:
                yield record.name, error
            else:
                yield record.name, purged

    async def due_jobs(self) -> DueJobs:
        """What is due of jobs with a schedule."""
        from orchestrator.app.due_jobs import DueJobs
        from orchestrator.app.run_notices import RunNotices

        try:
            reader = await self._open_reader()
        except StoreError:
            reader = None  # the first run makes the database
        return DueJobs(
            RunNotices(self._config.notify, self._backend.address, self._clock),
            store=self._open_store,
            reader=reader,
            is_at_work=self._backend.is_locked,
            simulated=self._config.simulated,
        )

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────

    async def status(self, run: str | None = None) -> Summary:
        """The counts of a run, and of its stages if it has some; of the newest run if none is named."""
        reader = await self._open_reader()
        if run is None:
            runs = await reader.runs()
            if not runs:
                raise RunNotFound(f"{self.database} holds no run yet", hint="start one with: orchestrator run JOB")
            return await with_stages(await self._summary(reader, runs[0]), reader)
        return await with_stages(await self._summary(reader, await self._find(run)), reader)

    async def runs(self) -> list[Summary]:
        """Every run of the database, newest first."""
        reader = await self._open_reader()
        return [await self._summary(reader, run) for run in await reader.runs()]

    async def results(
        self,
        run: str,
        *,
        states: Sequence[State] = (State.SUCCEEDED, State.FAILED, State.CANCELLED),
        stage: str | None = None,
        with_parts: bool = False,
        flag: str | None = None,
    ) -> AsyncIterator[ResultRecord]:
        """The requests of a run, of one of its stages or with a flag, in input order, in constant memory.

        The results of a stage include the rows that an earlier stage lost, as failed ones of that stage, if each of
        them would have been one of this stage. ``with_parts`` includes the parts in which large groups were asked.
        """
        record = await self._find(run)
        check_stage(record, stage)
        if flag is not None:
            await self._check_flag(record, flag)
        reader = await self._open_reader()
        if stage is None:
            found = reader.results(record.id, states)
        else:
            found = reader.stage_results(record.id, states_by_stage(record, stage, states))
        grouping = grouping_stages(record)
        async for result in found:
            is_wanted = with_parts or result.is_group or result.stage not in grouping
            if is_wanted and flag in (None, result.flag):
                yield result

    async def with_details(
        self, records: AsyncIterator[ResultRecord], *, bodies: bool = False
    ) -> AsyncIterator[ResultRecord]:
        """The same results with their rows, and with the ``bodies`` of their responses, in ``details``."""
        from orchestrator.app.result_details import with_details

        async for record in with_details(records, await self._open_reader(), bodies=bodies):
            yield record

    async def collect(self, run: str, *, stage: str | None = None) -> Results:
        """All results of a run, or of a stage, for data frames and typed answers; ``results`` needs less memory."""
        from orchestrator.app.run_results import Results

        return Results(await self.status(run), tuple([each async for each in self.results(run, stage=stage)]))

    async def skipped(self, run: str, *, most: int = 1000) -> list[SkippedRow]:
        """The first bad rows of a run that ``input.on_bad_row: skip`` left out."""
        return (await (await self._open_reader()).skipped((await self._find(run)).id))[:most]

    async def show(self, run: str, key: str, *, stage: str | None = None) -> RequestHistory:
        """Everything that is on record of one row, of a stage or of the one that has a row of that key.

        Raises ``RunNotFound`` if there is none, ``UsageError`` if several stages have one.
        """
        record = await self._find(run)
        reader = await self._open_reader()
        request = await row_of(reader, record, key, stage=stage)
        return await history_of(reader, request)

    async def input_items(self, run: str, key: str, *, stage: str | None = None) -> AsyncIterator[bytes]:
        """The input items of a row's latest response, each as JSON, asked of the provider; all pages, oldest first.

        Raises ``UsageError`` if there is no response, or the provider no longer knows it.
        """
        from orchestrator.app.sent_request import input_items

        history = await self.show(run, key, stage=stage)
        async for item in input_items(self._config, self._backend.local_path, history):
            yield item

    async def follow(
        self, run: str, key: str, *, after: int | None = None, stage: str | None = None
    ) -> AsyncIterator[LiveEvent]:
        """Yields what comes of a row's response as it grows, to its end; the text of one that has ended.

        ``after`` is the number of the event to continue after. It changes nothing; another process may hold the run.
        """
        from orchestrator.app.connections import endpoint_config, open_provider
        from orchestrator.app.follow import LiveTail, replay_events

        history = await self.show(run, key, stage=stage)
        if history.request.state in SETTLED:
            for event in replay_events(history):
                yield event
            return
        latest = next((each for each in reversed(history.responses) if each.response_id), None)
        config = endpoint_config(self._config, latest.endpoint) if latest is not None else self._config
        async with open_provider(config, self._backend.local_path) as provider:
            tail = LiveTail(
                provider.client,
                provider.streams(),
                redaction=provider.redaction,
                history=partial(self.show, run, key, stage=stage),
                clock=self._clock,
                rng=self._rng,
            )
            async for event in tail.follow(after=after):
                yield event

    async def request_sent(self, run: str, key: str, *, stage: str | None = None) -> dict[str, Any] | None:
        """The body of a row's latest create call, composed again from row and job; None if it makes none."""
        from orchestrator.app.sent_request import request_sent

        history = await self.show(run, key, stage=stage)
        return await request_sent(await self._open_reader(), await self._find(run), history)

    async def retained(self, run: str) -> Retained | None:
        """What a run is to keep and what was deleted of it; None for one that was never worked on."""
        return await (await self._open_reader()).retained((await self._find(run)).id)

    async def lanes(self, run: str) -> list[LaneNote]:
        """Which lanes the requests of a run take, since when and why; empty if all are sent to the background."""
        from orchestrator.engine.lane_notes import lane_notes

        return await lane_notes(await self._open_reader(), (await self._find(run)).id)

    async def batches(self, run: str) -> list[ProviderBatch]:
        """The batches that the requests of a run were sent in, in order; empty if there are none."""
        return await (await self._open_reader()).batches((await self._find(run)).id, unfinished=False)

    async def costs(self, run: str | None, by: Sequence[str]) -> list[CostRow]:
        """Charges of one run, or of all, summed by ``run``, ``model``, ``tier``, ``day``, ``stage``, ``state`` or
        ``lane``.
        """
        check_groupings(by)
        reader = await self._open_reader()
        return await reader.costs((await self._find(run)).id if run is not None else None, by)

    async def reconcile(self, run: str | None = None, *, account: bytes | None = None) -> Reconciliation:
        """Hold what was charged here, to one run or to all with real money, against the provider's own account.

        ``account`` is the JSON of the organisation's costs or usage; without it, it is fetched with an admin key.
        """
        from orchestrator.app.reconcile.compare import compare

        reader = await self._open_reader()
        run_id = (await self._find(run)).id if run is not None else None
        charged = await reader.costs(run_id, ("day", "model"), with_simulated=False)
        return await compare(charged, self._config, account=account)

    # ── looking before leaping ────────────────────────────────────────────────────────────────────────────

    async def doctor(self, *, model: str | None = None) -> list[Finding]:
        """Whether everything is in place for a run: database, config, key, provider.

        Two small requests show what the server supports: to ``model``, or to one that is free or nearly so.
        """
        from orchestrator.app.doctor import check

        return await check(self._config, self._backend, clock=self._clock, model=model)

    async def compare(self, job: Job, *, night: NightOptions | None = None) -> Comparison | None:
        """How the rows of a job with increments compare with its dataset; None if there is nothing to compare with.

        Reads the whole input, and stores and sends nothing.
        """
        from orchestrator.app.nights import NightJob, NightOptions, compare_rows
        from orchestrator.job.requests.renderer import Renderer

        if job.increments is None or not await self._backend.exists():
            return None
        try:
            reader = await self._open_reader()
        except StoreError:
            # Another process may be creating it; a run waits for that, or reports what is wrong.
            return None
        renderer = Renderer(
            job, may_be_unstored=self._config.provider.store == "optional", private=self._config.private_files
        )
        night_job = NightJob(job, job.increments, self._config, renderer, night or NightOptions(), self._clock)
        return await compare_rows(night_job, reader)

    async def dataset(
        self,
        name: str,
        *,
        states: Sequence[State] = (State.SUCCEEDED, State.FAILED, State.CANCELLED),
        simulated: bool | None = None,
        flag: str | None = None,
    ) -> AsyncIterator[ResultRecord]:
        """The latest request of each row of a dataset, in constant memory; raises ``RunNotFound`` if there is none.

        ``simulated`` chooses between one made at the sandbox and one made with real money; without it the latter
        comes first.
        """
        found = await find_dataset(await self._open_reader(), name, simulated=simulated)
        async for result in (await self._open_reader()).dataset_results(found.id):
            if result.state in states and flag in (None, result.flag):
                yield result

    async def latest_night(self, dataset: str) -> Summary:
        """The counts of the latest run that added to a dataset."""
        reader = await self._open_reader()
        found = await find_dataset(reader, dataset)
        [latest, *_] = await reader.nights(found.id)
        return next(each for each in await self.runs() if each.run.id == latest.run_id)

    async def job_of(self, run: str) -> Job:
        """The job that a run was last worked on with, as the database keeps it."""
        from orchestrator.app.stored_job import stored_job

        return await stored_job(await self._open_reader(), await self._find(run))

    async def left_behind(self, job: Job, *, name: str | None = None, new: bool = False) -> list[Summary]:
        """The unfinished runs of a job whose rows ``run`` would ask again, in a new run; the newest first.

        None if it would resume a run, or if the job takes over what earlier runs have.
        """
        from orchestrator.app.run_start import job_identity
        from orchestrator.engine.runs import find_run

        if job.reuse != "never" or job.increments is not None or not await self._backend.exists():
            return []
        try:
            reader = await self._open_reader()
        except StoreError:
            # A run repairs it, or reports what is wrong with it.
            return []
        identity = await anyio.to_thread.run_sync(job_identity, job, self._config)
        if await find_run(reader, identity, name=job.named_run(name, new=new), new=new) is not None:
            return []
        unfinished = [
            await self._summary(reader, run)
            for run in await reader.runs()
            if run.job == job.name
            and run.simulated == identity.simulated
            and run.day == identity.day
            and run.state not in (RunState.FINISHED, RunState.CANCELLED)
        ]
        return [summary for summary in unfinished if summary.attempts and summary.run.state is not RunState.ACTIVE]

    async def check(self, job: Job) -> None:
        """Raise what ``run`` would raise before anything is read or stored: a job of which nothing can be sent."""
        from orchestrator.app.run_start import refuse_hopeless
        from orchestrator.app.wiring import work_of

        renderer = work_of(self._config, job, may_be_unstored=self._config.provider.store == "optional").renderer
        await anyio.to_thread.run_sync(partial(refuse_hopeless, job, renderer, self._config, now=self._clock.now()))

    async def dry_run(self, job: Job, *, until: str | None = None) -> DryRun:
        """Read and check every row and show the first request; nothing is sent, nothing is stored.

        ``until`` is the last stage that is asked.
        """
        from orchestrator.app.dry_run import dry_run, dry_run_of_stages
        from orchestrator.app.reusable import Reusable

        if job.stages is not None:
            return await dry_run_of_stages(await self._pipeline_forecaster(job, until))
        reader = await self._reader_if_any()
        return await dry_run(job, self._config, Reusable(job, self._config, reader), self._clock.now())

    async def estimate(
        self, job: Job, *, exact: Exact | None = None, compare: Sequence[str] = (), learn_from: str | None = None
    ) -> Forecast:
        """What a job will take and cost; nothing is sent but, with ``exact``, texts to be counted.

        ``exact`` is how many requests the provider counts, or ``"all"``; ``compare`` names models to be priced
        beside; ``learn_from`` is the one run whose answers give the length of answers, in place of all like it.
        """
        from orchestrator.app.connections import open_client

        if job.stages is not None:
            if exact is not None:
                raise UsageError(
                    "the provider cannot count the tokens of requests that depend on answers",
                    hint="leave --exact out; tokens are then counted on this machine",
                )
            pipeline = await self._pipeline_forecaster(job)
            return await pipeline.forecast(await pipeline.walk(), compare=compare, learn_from=learn_from)
        forecaster = await self._forecaster(job)
        return await forecaster.forecast(
            lambda: open_client(self._config, self._backend.local_path),
            exact=exact,
            compare=compare,
            learn_from=learn_from,
        )

    async def glance(
        self, job: Job, *, name: str | None = None, new: bool = False, until: str | None = None
    ) -> Forecast | None:
        """A rough forecast of a new run from its first rows, within a quarter of a second.

        None if ``run`` would resume a run that exists, if the first rows are not enough for a forecast, or if the job
        has increments and answers: then ``compare`` counts the rows that are asked.
        """
        from orchestrator.app.run_start import job_identity
        from orchestrator.engine.runs import find_run

        self._config.check_keys(os.environ)
        if await self._backend.exists():
            try:
                reader = await self._open_reader()
            except StoreError:
                # One that the run is to make whole first, as after a kill at its first moment; or to refuse itself.
                return None
            if job.dataset is not None:
                dataset = await reader.dataset(job.dataset, simulated=self._config.simulated)
                if dataset is not None and dataset.rows:
                    return None
            identity = await anyio.to_thread.run_sync(job_identity, job, self._config)
            # The next night of a job with increments finds a name of its own.
            if (
                await find_run(
                    reader, identity, name=None if job.increments else job.named_run(name, new=new), new=new
                )
                is not None
            ):
                return None
        if job.stages is not None:
            return await (await self._pipeline_forecaster(job, until)).glance()
        return await (await self._forecaster(job)).glance()

    # ── wiring ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _config(self) -> Config:
        if self._given_config is None:
            from orchestrator.config import load_config

            self._given_config = load_config()
        return self._given_config

    async def _forecaster(self, job: Job) -> Forecaster:
        from orchestrator.app.forecast.forecaster import Forecaster
        from orchestrator.policy.pricing.prices import PriceBook

        return Forecaster(
            job,
            self._config,
            reader=await self._reader_if_any(),
            prices=PriceBook(self._config.price_rules()),
            clock=self._clock,
            rng=self._rng,
        )

    async def _pipeline_forecaster(self, job: Job, until: str | None = None) -> PipelineForecaster:
        from orchestrator.app.forecast.pipeline_forecast import PipelineForecaster
        from orchestrator.app.wiring import work_of
        from orchestrator.job.stages.stage_jobs import stages_until
        from orchestrator.policy.pricing.prices import PriceBook

        if until is not None:
            asked = stages_until(job, until)
            job = job.model_copy(update={"stages": {name: (job.stages or {})[name] for name in asked}})
        work = work_of(self._config, job, may_be_unstored=self._config.provider.store == "optional")
        assert work.pipeline is not None  # noqa: S101 – for the type checker: the job has stages
        return PipelineForecaster(
            job,
            self._config,
            work.pipeline,
            reader=await self._reader_if_any(),
            prices=PriceBook(self._config.price_rules()),
            clock=self._clock,
        )

    async def _reader_if_any(self) -> Reader | None:
        """The reader; None if there is no database yet, or one that a run is to make whole first."""
        try:
            return await self._open_reader()
        except StoreError:
            return None

    async def _retention(self) -> RetentionService:
        from orchestrator.app.retention.service import RetentionService

        return RetentionService(
            self._config,
            self._backend.local_path,
            store=await self._open_store(),
            reader=await self._open_reader(),
            clock=self._clock,
            rng=self._rng,
        )

    async def _start_execution(self) -> Execution:
        from orchestrator.app.execution import Execution
        from orchestrator.app.wiring import Surroundings

        self._execution = Execution(
            self._config,
            self._backend,
            store=await self._open_store(),
            reader=await self._open_reader(),
            surroundings=Surroundings(clock=self._clock, rng=self._rng, observe=self._observe),
            show=self._show,
        )
        if self._stopped:
            self._execution.interrupt()
        return self._execution

    def _show(self, progress: Progress) -> None:
        self.progress = progress

    def _observe(self, event: RunEvent) -> None:
        for observer in self._observers:
            observer(event)

    async def upgrade(self) -> None:
        """Upgrade a database that an older version wrote, as everything that writes does."""
        try:
            await self._open_reader()
        except OutdatedDatabase:
            await self._open_store()

    async def _open_store(self) -> Store:
        if self._store is None:
            self._store = await self._resources.enter_async_context(self._backend.open_store())
        return self._store

    async def _open_reader(self) -> Reader:
        if self._reader is None:
            self._reader = await self._resources.enter_async_context(self._backend.open_reader())
        return self._reader

    async def _find(self, name: str) -> Run:
        reader = await self._open_reader()
        run = await reader.run(name)
        if run is None:
            known = ", ".join(each.name for each in (await reader.runs())[:5]) or "none"
            raise RunNotFound(f"{self.database} has no run named {name!r}", hint=f"its newest runs: {known}")
        return run

    async def _summary(self, reader: RunReader, run: Run) -> Summary:
        summary = await reader.summary(run.id)
        if summary.run.state is RunState.ACTIVE and not self._backend.is_locked(run.id):
            return replace(summary, run=replace(summary.run, state=RunState.PAUSED))
        return summary

    async def _until_settled(self, run: Run) -> None:
        """Wait until the process that holds the run has seen the cancel and stopped."""
        while self._backend.is_locked(run.id):
            await self._clock.sleep_until(self._clock.now() + _CANCEL_CHECK_S)
