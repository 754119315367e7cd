"""Housekeeping: once a second, counters go to disk; files, deadline, cancel, spending and other runs are checked."""

from __future__ import annotations

from collections import Counter

from orchestrator.core.errors import StoreError
from orchestrator.core.model import MAIN_STAGE
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import Halted
from orchestrator.engine.learned_state import LearnedState
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import OtherRuns
from orchestrator.engine.tasks.lane_chooser import LaneChooser
from orchestrator.policy.polling.deadlines import may_send
from orchestrator.stores.writes import Counts

__all__ = ["Housekeeping"]

_PERIOD_S = 1.0
# In periods.
_SAVE_LEARNED_EVERY = 30


class Housekeeping:
    """Writes counters, notices a cancel by another process, stops the sending at the run's deadline."""

    def __init__(
        self, run: RunContext, funds: Funds, learned: LearnedState, other_runs: OtherRuns, lanes: LaneChooser
    ) -> None:
        self._run = run
        self._other_runs = other_runs
        self._status = run.status
        self._funds = funds
        self._learned = learned
        self._lanes = lanes
        self._written_polls = 0
        self._written_at = run.clock.now()

    async def run(self) -> None:
        """Keep house until cancelled."""
        rounds, clock = 0, self._run.clock
        while True:
            await clock.sleep_until(clock.now() + _PERIOD_S)
            rounds += 1
            self.check_files()
            await self._write_counts()
            if not self._funds.has_siblings:
                await self._run.store.add_pulse(self._run.record.id, clock.now())
            await self._count_stages()
            await self._check_cancel()
            await self._refresh_spending()
            await self._other_runs.check()
            self._check_deadline()
            await self._lanes.check()
            if rounds % _SAVE_LEARNED_EVERY == 0:
                await self._learned.save()

    async def recall(self) -> None:
        """Load what earlier runs learned; the run begins."""
        await self._learned.recall()
        await self._lanes.recall()

    def check_files(self) -> None:
        """Halt the run if the database is no longer where it was: no other process would find what is written."""
        try:
            self._run.store.check_in_place()
        except StoreError as error:
            self._status.error = error
            # In place of any other reason: what is open cannot be collected either.
            self._status.halted = Halted("database_gone", error.message, collect=False)
            self._status.wake()

    async def flush(self) -> None:
        """Write what is only in memory; the run is over or interrupted."""
        self._lanes.finish()
        await self._write_counts()
        await self._count_stages()
        await self._learned.save()

    async def _write_counts(self) -> None:
        # Rate-limited calls are not among them: each is written when it happens.
        now, polls = self._run.clock.now(), self._run.observation.progress.polls
        # The time of processes that work side by side is counted once, by the one that started them.
        elapsed_s = 0.0 if self._funds.has_siblings else now - self._written_at
        counts = Counts(polls=polls - self._written_polls, elapsed_s=elapsed_s)
        self._written_polls, self._written_at = polls, now
        await self._run.store.add_counts(self._run.record.id, counts)

    async def _count_stages(self) -> None:
        """Show how far each stage is; a run without stages shows its own counts."""
        if MAIN_STAGE in self._run.stages:
            return
        tally = await self._run.reader.stage_tally(self._run.record.id)
        # The last stage is sent first, and shown last.
        names = reversed([*self._run.stages])
        self._run.observation.progress.stages = {name: Counter(tally.get(name, {})) for name in names}

    async def _check_cancel(self) -> None:
        if self._status.cancelling:
            return
        record = await self._run.reader.run(self._run.record.name)
        if record is not None and record.cancel_requested:
            self._status.cancelling = True
            self._status.poll_queue.poll_all_now(self._run.clock.now())
            self._status.wake()

    async def _refresh_spending(self) -> None:
        """Other runs that spend under the same caps, or a new day, may hold this run back or let it continue."""
        caps = self._funds.caps
        if caps is None:
            return
        self._funds.refresh(await self._run.reader.spending(caps, self._run.clock.now()))
        if self._run.observation.progress.waiting_for == "budget":
            self._status.send_signal.set()

    def _check_deadline(self) -> None:
        if not may_send(self._run.clock.now(), self._run.record.deadline_at):
            self._status.halt(Halted("deadline", "the run's deadline has passed; nothing new is sent", collect=True))
