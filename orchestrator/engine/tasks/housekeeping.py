"""What must be done now and then while a run goes on: counters, deadlines, a cancel asked for elsewhere."""

from __future__ import annotations

from orchestrator.engine.items import Stopped
from orchestrator.engine.learned_state import LearnedState
from orchestrator.engine.steps import Context, refresh_spending
from orchestrator.engine.tasks.poller import Poller
from orchestrator.policy.polling.deadlines import may_send
from orchestrator.stores.base import Reader
from orchestrator.stores.writes import Counts

__all__ = ["Housekeeping"]

_PERIOD_S = 1.0
_LEARNT_EVERY = 30


class Housekeeping:
    """Once a second: write the counters down, look for a cancel, stop sending at the run's deadline."""

    def __init__(self, context: Context, *, reader: Reader, poller: Poller, learned: LearnedState) -> None:
        self._context = context
        self._run = context.run
        self._run_status = context.flow
        self._clock = context.clock
        self._reader = reader
        self._poller = poller
        self._learned = learned
        self._written_polls = 0
        self._written_at = context.clock.now()

    async def run(self) -> None:
        """Keep things in order until cancelled."""
        rounds = 0
        while True:
            await self._clock.sleep_until(self._clock.now() + _PERIOD_S)
            rounds += 1
            await self._write_counts()
            await self._see_cancel()
            await self._see_spending()
            self._see_deadline()
            if rounds % _LEARNT_EVERY == 0:
                await self._learned.save()

    async def flush(self) -> None:
        """Write down what is only in memory; the run is over or interrupted."""
        await self._write_counts()
        await self._learned.save()

    async def _write_counts(self) -> None:
        # Bounces off a limit are not among them: each is written where it happens.
        now, polls = self._clock.now(), self._context.progress.polls
        counts = Counts(polls=polls - self._written_polls, elapsed_s=now - self._written_at)
        self._written_polls, self._written_at = polls, now
        await self._context.store.add_counts(self._run.id, counts)

    async def _see_cancel(self) -> None:
        if self._run_status.cancelling:
            return
        run = await self._reader.run(self._run.name)
        if run is not None and run.cancel_requested:
            self._run_status.cancelling = True
            self._poller.hurry()
            self._run_status.wake()

    async def _see_spending(self) -> None:
        """What others spend under the same caps, or a day that begins, may hold this run back or let it go on."""
        caps = self._context.settings.shared_caps
        if caps is None:
            return
        refresh_spending(self._context, await self._reader.spending(caps, self._clock.now()))
        if self._context.progress.waiting_for == "budget":
            self._run_status.sender.set()

    def _see_deadline(self) -> None:
        if not may_send(self._clock.now(), self._run.deadline_at):
            self._run_status.stop(
                Stopped("deadline", "the run's deadline has passed; nothing new is sent", collect=True)
            )
