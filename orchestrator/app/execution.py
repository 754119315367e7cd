"""Carries a run out: chooses it, locks it and its dataset, works on it, and records how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace

from orchestrator.app.connections import Provider, address, open_providers
from orchestrator.app.nights import NightJob, NightOptions, begin_night, end_night, open_nights, take_over
from orchestrator.app.run_alerts import RunAlerts
from orchestrator.app.run_notices import RunNotices
from orchestrator.app.sent_request import note_sending, sending_note
from orchestrator.app.split_run_display import SplitRunDisplay
from orchestrator.app.split_runs import RunSplit, store_split, stored_split, worker_config
from orchestrator.app.stored_job import note_job_file
from orchestrator.app.supervisor import Supervisor, WorkerCommand
from orchestrator.app.wiring import Storage, Surroundings, Work, assemble, assemble_planner, work_of
from orchestrator.config import Config
from orchestrator.core.clock import AheadClock, Clock
from orchestrator.core.errors import RunBusy
from orchestrator.core.events import Progress, RunStarted, Warned
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import RunState
from orchestrator.engine.loop import Ended, LocalLoop
from orchestrator.engine.runs import JobIdentity, choose_run, grows, resume
from orchestrator.engine.tasks.held_shards import ShardSource
from orchestrator.job.spec import Job
from orchestrator.policy.due_nights import resume_at
from orchestrator.stores.base import Backend, Reader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.shards import shards_of, worker_place

__all__ = ["CarriedOut", "Execution"]

# Clocks of one machine differ by less from process to process.
_REPORTED_S = 60.0
# How a run ends that was interrupted while workers did it.
_LEFT = Ended(RunState.ACTIVE)


@fast_dataclass(kw_only=False)
class CarriedOut:
    """The run that was worked on, and how that ended; None if nothing was left to do."""

    run: str
    ended: Ended | None


class Execution:
    """Works on one run at a time. ``show`` is given the live counts as soon as there are some."""

    def __init__(
        self,
        config: Config,
        backend: Backend,
        *,
        store: Store,
        reader: Reader,
        surroundings: Surroundings,
        show: Callable[[Progress], None],
    ) -> None:
        self._config = config
        self._backend = backend
        self._store = store
        self._reader = reader
        self._clock = surroundings.clock
        self._rng = surroundings.rng
        self._observe = surroundings.observe
        self._show = show
        self._notices = RunNotices(config.notify, backend.address, self._clock)
        self._loop: LocalLoop | None = None
        # What else is stopped by an interruption: the planning of a run for workers, and these.
        self._stops: list[Callable[[], None]] = []
        # A stop may come before there is a loop to stop.
        self._interrupted = False

    def interrupt(self) -> None:
        """Send nothing new, and end soon."""
        self._interrupted = True
        if self._loop is not None:
            self._loop.interrupt()
        for stop in self._stops:
            stop()

    async def run(
        self,
        work: Work,
        identity: JobIdentity,
        *,
        name: str | None,
        new: bool,
        night: NightOptions | None,
        workers: WorkerCommand | None = None,
    ) -> CarriedOut:
        """Choose or create the run of a job, and work on it to its end; a job with increments locks its dataset."""
        job, reader = work.job, self._reader
        if self._config.webhooks is not None:
            # Before a run is made of which nothing could be sent.
            self._config.webhooks.check(os.environ)
        if job.increments is None:
            return await self._run(work, identity, name=name, new=new, workers=workers)
        night_job = NightJob(job, job.increments, self._config, work.renderer, night or NightOptions(), self._clock)
        dataset_id = await self._store.open_dataset(night_job.dataset, simulated=night_job.simulated)
        with self._backend.lock_dataset(dataset_id, night_job.dataset):
            if night is not None and night.due is not None and await self._is_over(name):
                return CarriedOut(name or "", None)
            await open_nights(night_job, dataset_id, store=self._store, reader=reader)
            if name is not None and not new:
                name = await night_job.free_name(reader, identity, name)
            return await self._run(work, identity, name=name, new=new, night_job=night_job)

    async def _is_over(self, name: str | None) -> bool:
        run = None if name is None else await self._reader.run(name)
        return run is not None and run.state in (RunState.FINISHED, RunState.CANCELLED)

    async def cancel(self, run: Run) -> None:
        """Work on a cancelled run until nothing of it is open any more; for no run that another process holds."""
        with self._backend.lock(run.id, run.name):
            work = self._stored_work(run)
            await self._store_end(run, await self._carry_out(run, work), work.job)
        await self._deliver_notices()

    async def _run(
        self,
        work: Work,
        identity: JobIdentity,
        *,
        name: str | None,
        new: bool,
        night_job: NightJob | None = None,
        workers: WorkerCommand | None = None,
    ) -> CarriedOut:
        store, reader, job = self._store, self._reader, work.job
        run, resumed = await choose_run(store, reader, identity, name=name, new=new, now=self._clock.now())
        if run.state is RunState.CANCELLED or (run.state is RunState.FINISHED and not grows(run, identity)):
            return CarriedOut(run.name, None)
        with self._backend.lock(run.id, run.name):
            run = await resume(store, reader, run, identity, self._clock.now())
            await store.keep_policy(run.id, address(self._config), job.retention.model_dump_json())
            note = sending_note(job, self._config, work.renderer, now=self._clock.now())
            await note_sending(store, reader, run, note)
            await note_job_file(store, reader, run, job)
            self._observe(RunStarted(run=run.name, job=job.name, resumed=resumed, database=self._backend.address))
            if night_job is not None:
                now = self._clock.now()
                for other in await take_over(night_job, run, self._collect, store=store, reader=reader, now=now):
                    self._observe(Warned(code="day_unread", message=_unread(other, job)))
                work = replace(work, night=await begin_night(night_job, run, store=store, reader=reader))
            await self._notices.announce_start(run.uid)
            if workers is not None:
                run = await self._work_with_workers(run, work, workers)
            ended = await self._carry_out(run, work) if workers is None or not self._interrupted else _LEFT
            if work.night is not None:
                await end_night(work.night, run, ended.state, store=store, now=self._clock.now())
            await self._store_end(run, ended, job)
        await self._deliver_notices()
        return CarriedOut(run.name, ended)

    async def work_on_shards(self, run: Run, work: Work) -> Ended | None:
        """Work on the shards of a run that no other process holds; None if there is no place for a worker."""
        split = await stored_split(self._reader, run)
        bounds = await self._reader.request_range(run.id)
        if bounds is None:
            return None
        with ExitStack() as locks:
            if not _take_place(split.workers, lambda place: self._backend.lock_shard(run.id, place, run.name), locks):
                return None
            source = ShardSource(
                self._reader,
                shards_of(*bounds, split.rows),
                lock=lambda number: self._backend.lock_shard(run.id, number, run.name),
                locks=locks,
            )
            # The prices, keys and address are those of the whole config; only its limits are divided.
            self._config = worker_config(self._config, split.workers)
            return await self._carry_out(run, replace(work, config=self._config, shards=source))

    async def _work_with_workers(self, run: Run, work: Work, workers: WorkerCommand) -> Run:
        """Plan a run and let workers do what they can of it; what they leave is done as that of any run."""
        run = await self._plan(run, work)
        if self._interrupted or not run.plan.complete:
            return run
        await store_split(self._store, run, RunSplit(workers=workers.count, rows=workers.rows))
        async with open_providers(self._config, self._backend.local_path, warn=self._warn_of_sandbox):
            display = SplitRunDisplay(run, store=self._store, reader=self._reader, clock=self._clock)
            await display.watch()
            self._show(display.progress)
            supervisor = Supervisor(workers, run=run.name, watch=display.watch)
            with self._stopping(supervisor.stop):
                await supervisor.run()
        if supervisor.restarts:
            message = f"{supervisor.restarts} workers had died and were started again"
            self._observe(Warned(code="worker_died", message=message))
        return run

    async def _plan(self, run: Run, work: Work) -> Run:
        """Read the input into the store; a bad row is reported later, when the run is carried out."""
        planner, context = await assemble_planner(
            work,
            run,
            storage=Storage(store=self._store, reader=self._reader, is_at_work=self._backend.is_locked),
            surroundings=Surroundings(clock=await self._clock_of(run), rng=self._rng, observe=self._observe),
        )
        self._show(context.observation.progress)

        def stop() -> None:
            context.status.interrupted = True

        with self._stopping(stop):
            await planner.run()
        return await self._reader.run(run.name) or run

    @contextmanager
    def _stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """An interruption calls this too, meanwhile."""
        self._stops.append(stop)
        try:
            yield
        finally:
            self._stops.remove(stop)

    async def _collect(self, run: Run) -> None:
        """Wait for what a run has open at the provider; nothing of it is sent."""
        with self._backend.lock(run.id, run.name):
            await self._carry_out(run, replace(self._stored_work(run), only_collect=True))

    def _stored_work(self, run: Run) -> Work:
        """The work of a run of which nothing is sent any more."""
        return work_of(self._config, Job.model_validate_json(run.spec_json), may_be_unstored=True)

    async def _carry_out(self, run: Run, work: Work) -> Ended:
        alone = nullcontext() if work.shards is not None else self._backend.lock_shards(run.id, run.name)
        with alone:
            return await self._carry_out_locked(run, work)

    async def _carry_out_locked(self, run: Run, work: Work) -> Ended:
        clock = await self._clock_of(run)
        alerts = RunAlerts(
            self._config, self._notices, run, store=self._store, reader=self._reader, clock=self._clock
        )
        async with open_providers(self._config, self._backend.local_path, warn=self._warn_of_sandbox) as providers:
            self._loop = await assemble(
                work,
                run,
                storage=Storage(store=self._store, reader=self._reader, is_at_work=self._backend.is_locked),
                providers=providers,
                surroundings=Surroundings(clock=clock, rng=self._rng, observe=alerts.observing(self._observe)),
            )
            self._show(self._loop.progress)
            if self._interrupted:
                self._loop.interrupt()
            try:
                async with alerts.watching(self._loop.progress), self._webhooks(self._loop, providers[0], run, clock):
                    return await self._loop.run()
            finally:
                self._loop = None

    def _webhooks(
        self, loop: LocalLoop, provider: Provider, run: Run, clock: Clock
    ) -> AbstractAsyncContextManager[object]:
        """Listens for events of the provider, if the config says so."""
        if loop.hints is None or self._config.webhooks is None:
            return nullcontext()
        from orchestrator.app.event_receiver import listening

        return listening(
            self._config.webhooks,
            loop.hints,
            provider.client,
            run_uid=run.uid,
            clock=clock,
            warn=lambda code, message: self._observe(Warned(code=code, message=message)),
        )

    async def _store_end(self, run: Run, ended: Ended, job: Job) -> None:
        """Record how a run ended, with the notices of it; nothing if it was only interrupted."""
        if ended.state is RunState.ACTIVE:
            return
        summary = await self._reader.summary(run.id)
        ending = replace(summary, run=replace(summary.run, state=ended.state, reason=ended.reason))
        notices, now = self._notices.of_end(ending, may_be_empty=job.input.may_be_empty), self._clock.now()
        again_at = _resume_at(ended, job, now)
        await self._store.set_run_state(run.id, ended.state, ended.reason, now, notices=notices, resume_at=again_at)

    async def _deliver_notices(self) -> None:
        """Deliver what is in the outbox, after the lock is released; a failure is a warning."""
        for failed in await self._notices.deliver_pending(self._store):
            message = f"{failed.receiver} was not notified: {failed.error}; the next run tries again"
            self._observe(Warned(code="notice_failed", message=message))

    async def _clock_of(self, run: Run) -> Clock:
        """A clock that is not behind what is on record; if it were, every wait would take that much longer."""
        latest = await self._reader.latest_at(run.id)
        behind_s = 0.0 if latest is None else latest - self._clock.now()
        if behind_s <= 0:
            return self._clock
        if behind_s > _REPORTED_S:
            message = f"the clock of this machine was set back by {behind_s:.0f} s; the run continues by its own time"
            self._observe(Warned(code="clock_set_back", message=message))
        return AheadClock(self._clock, behind_s)

    def _warn_of_sandbox(self, message: str) -> None:
        self._observe(Warned(code="sandbox", message=message))


def _take_place(places: int, lock: Callable[[int], AbstractContextManager[object]], locks: ExitStack) -> bool:
    """Lock one of the places for workers; False if all are taken."""
    for place in range(places):
        try:
            locks.enter_context(lock(worker_place(place)))
        except RunBusy:
            continue
        return True
    return False


def _unread(run: Run, job: Job) -> str:
    asks = f"orchestrator run {job.source or 'JOB'} --backfill {run.day}..{run.day}"
    return f"{run.name} was not finished, and this run does not read its input; what it has not sent: {asks}"


def _resume_at(ended: Ended, job: Job, now: float) -> float | None:
    if ended.state is not RunState.HALTED:
        return None
    following = None if job.schedule is None else next(job.schedule.timetable.after(now), None)
    return resume_at(ended.reason, cap=ended.cap, now=now, next_slot=None if following is None else following.at)
