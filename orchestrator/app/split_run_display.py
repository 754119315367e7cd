"""The live counts of a run that other processes work on, read from the database."""

from __future__ import annotations

from collections import Counter

from orchestrator.core.clock import Clock
from orchestrator.core.events import Progress
from orchestrator.core.states import SETTLED
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.writes import Counts

__all__ = ["SplitRunDisplay"]


class SplitRunDisplay:
    """Keeps ``progress`` as the database has it, and counts the time that the workers of a run take together."""

    def __init__(self, run: Run, *, store: Store, reader: Reader, clock: Clock) -> None:
        self._run = run
        self._store = store
        self._reader = reader
        self._clock = clock
        self._counted_at = clock.now()
        self._settled_before: int | None = None
        self.progress = Progress(run=run.name, started_at=clock.now(), planning_done=True)

    async def watch(self) -> None:
        """Look once."""
        summary, now, progress = await self._reader.summary(self._run.id), self._clock.now(), self.progress
        await self._store.add_counts(self._run.id, Counts(elapsed_s=now - self._counted_at))
        await self._store.add_pulse(self._run.id, now)
        self._counted_at = now
        progress.requests = Counter(summary.requests)
        progress.planned = summary.requests.total
        settled = sum(summary.requests.get(state, 0) for state in SETTLED)
        if self._settled_before is None:
            self._settled_before = settled
        progress.settled_here = settled - self._settled_before
        progress.polls, progress.rate_limited = summary.polls, summary.rate_limited
        progress.usage = summary.usage
        progress.cost_pusd, progress.cost_unknown = summary.cost_pusd, summary.cost_unknown
        progress.reserved_pusd, progress.budget_pusd = summary.reserved_pusd, summary.run.budget_pusd
