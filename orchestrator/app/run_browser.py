"""Reads runs for the web view, beside the process that works on them, and sets flags if that is allowed.

It never blocks a run: reading takes no lock. What takes long on large runs has a connection of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.app.histories import history_of
from orchestrator.app.stage_summaries import with_stages
from orchestrator.core.clock import Clock, SystemClock
from orchestrator.core.errors import RunNotFound
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import RunState
from orchestrator.stores.backends import open_backend
from orchestrator.stores.base import Backend, ViewReader
from orchestrator.stores.datasets import NightRecord, find_dataset
from orchestrator.stores.reads import Run, Summary
from orchestrator.stores.request_history import RequestHistory

__all__ = ["NightSummary", "RunBrowser"]

_FIRST_NAMES = 5


@fast_dataclass
class NightSummary:
    """A run that added to a dataset, and what it found changed."""

    record: NightRecord
    summary: Summary


class RunBrowser:
    """The runs of one database. ``quick`` reads pages; ``slow`` is for sums that scan a run."""

    def __init__(self, backend: Backend, quick: ViewReader, slow: ViewReader, clock: Clock) -> None:
        self._backend = backend
        self.clock = clock
        self.quick = quick
        self.slow = slow

    @classmethod
    @asynccontextmanager
    async def open(cls, database: str | Path, *, clock: Clock | None = None) -> AsyncIterator[RunBrowser]:
        """Open a database for reading; raises ``StoreError`` if there is none, or it cannot be read."""
        backend = open_backend(database)
        async with backend.open_view() as quick, backend.open_view() as slow:
            yield cls(backend, quick, slow, clock or SystemClock())

    @property
    def database(self) -> str:
        """The address of the database."""
        return self._backend.address

    async def run(self, name: str) -> Run:
        """A run by its name; raises ``RunNotFound``."""
        found = await self.quick.run(name)
        if found is None:
            known = [each.run.name for each in await self.quick.run_page(before_id=None, limit=_FIRST_NAMES)]
            raise RunNotFound(
                f"{self.database} has no run named {name!r}", hint=f"its newest runs: {', '.join(known) or 'none'}"
            )
        return found

    async def run_by_id(self, run_id: int) -> Run:
        """A run by its id; raises ``RunNotFound``."""
        found = await self.quick.run_page(before_id=run_id + 1, limit=1)
        if not found or found[0].run.id != run_id:
            raise RunNotFound(f"{self.database} has no run with the number {run_id}")
        return found[0].run

    async def summary(self, run: Run) -> Summary:
        """The counts of a run now."""
        return self.as_worked_on(await self.quick.summary(run.id))

    async def summary_with_stages(self, run: Run) -> Summary:
        """The same with the counts and costs of its stages, which reads every charge of a run with stages."""
        return await with_stages(await self.summary(run), self.slow)

    async def runs(self, *, before_id: int | None, limit: int) -> list[Summary]:
        """Runs with their counts, the newest first, from before one."""
        found = await self.quick.run_page(before_id=before_id, limit=limit)
        return [self.as_worked_on(each) for each in found]

    def as_worked_on(self, summary: Summary) -> Summary:
        """The counts with the run's state as ``status`` shows it: paused if no process works on it."""
        if summary.run.state is RunState.ACTIVE and not self._backend.is_locked(summary.run.id):
            return replace(summary, run=replace(summary.run, state=RunState.PAUSED))
        return summary

    async def history(self, run: Run, stage: str, key: str) -> RequestHistory:
        """All that is on record of one row; raises ``RunNotFound`` if there is none."""
        request = await self.quick.request(run.id, key, stage=stage)
        if request is None:
            raise RunNotFound(f"run {run.name!r} has no row with this key in the stage {stage!r}")
        return await history_of(self.quick, request)

    async def request_sent(self, run: Run, history: RequestHistory) -> dict[str, Any] | None:
        """The body of a row's latest create call; None if it makes none, or its data was dropped."""
        from orchestrator.app.sent_request import request_sent

        return await request_sent(self.quick, run, history)

    async def nights(self, dataset: str, *, limit: int) -> list[NightSummary]:
        """The latest runs that added to a dataset, the newest first; raises ``RunNotFound`` if there is none."""
        found = await find_dataset(self.quick, dataset)
        records = (await self.quick.nights(found.id))[:limit]
        return [
            NightSummary(record=each, summary=self.as_worked_on(await self.quick.summary(each.run_id)))
            for each in records
        ]

    async def set_flag(self, request_id: int, flag: str | None, note: str) -> bool:
        """Flag a row, or take its flag away; the database is open for writing only meanwhile."""
        async with self._backend.open_store() as store:
            return await store.set_flag(request_id, flag, note, self.clock.now())
