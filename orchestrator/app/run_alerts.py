"""Notifies receivers of a run that is worked on: how much of its budget is used, and that it stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from orchestrator.app.run_notices import JobEvent, RunNotices
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import StoreError
from orchestrator.core.events import Observer, Progress, RunEvent, Settled
from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.core.states import SETTLED
from orchestrator.policy.alerts import Alert, Alerts
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run

__all__ = ["RunAlerts"]

_PERIOD_S = 5.0
_EVENTS = frozenset({"budget_80", "budget_100", "stalled"})
# Lanes whose answers take hours although all is well.
_PATIENT = frozenset({Lane.BATCH, *WINDOWS})


class RunAlerts:
    """Looks at the live counts of one run now and then."""

    def __init__(
        self, config: Config, notices: RunNotices, run: Run, *, store: Store, reader: Reader, clock: Clock
    ) -> None:
        self._notices = notices
        self._run = run
        self._store = store
        self._reader = reader
        self._clock = clock
        self._alerts = Alerts(unknown_s=config.timeouts.run)
        self._wanted = _EVENTS & {event for rule in config.notify for event in rule.on}

    def observing(self, observe: Observer) -> Observer:
        """The observer, which also learns how long requests take; the observer itself if that is not needed."""
        if "stalled" not in self._wanted:
            return observe

        def both(event: RunEvent) -> None:
            if isinstance(event, Settled):
                self._alerts.ended(event.elapsed_s)
            observe(event)

        return both

    @asynccontextmanager
    async def watching(self, progress: Progress) -> AsyncIterator[None]:
        """Look at the counts as long as the block runs; if no receiver wants these events, do nothing."""
        if not self._wanted:
            yield
            return
        # No task group: what goes wrong here must not end the run.
        watch = asyncio.create_task(self._watch(progress), name="run alerts")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait([watch])
        # What was reached in the last seconds; it is delivered with the notices of the end.
        await self._announce(self._of_budget(progress), deliver=False)

    async def _watch(self, progress: Progress) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + _PERIOD_S)
            await self._announce([*self._of_budget(progress), *self._of_progress(progress)], deliver=True)

    def _of_budget(self, progress: Progress) -> list[Alert]:
        return [] if progress.budget_used is None else self._alerts.budget(*progress.budget_used)

    def _of_progress(self, progress: Progress) -> list[Alert]:
        is_working = not _PATIENT & set(progress.lanes) and any(
            count for state, count in progress.requests.items() if state not in SETTLED
        )
        return self._alerts.progress(self._clock.now(), settled=progress.settled_here, is_working=is_working)

    async def _announce(self, found: Collection[Alert], *, deliver: bool) -> None:
        for alert in found:
            if alert.event in self._wanted:
                with suppress(StoreError):  # the run itself ends with it
                    summary = await self._reader.summary(self._run.id)
                    await self._notices.announce(self._event(alert), self._opened, summary=summary, deliver=deliver)

    async def _opened(self) -> Store:
        return self._store

    def _event(self, alert: Alert) -> JobEvent:
        run = self._run
        return JobEvent(
            event=alert.event,
            job=run.job,
            run=run.name,
            says=alert.says,
            next=f"orchestrator status {run.name}",
            once=f"{run.uid} {alert.cause}",
        )
