"""Reads the input into the store, ahead of the sending and apart from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from anyio import to_thread

from orchestrator.core.errors import BadRow
from orchestrator.core.events import RowSkipped, Warned
from orchestrator.core.model import NewRequest, PlanMark
from orchestrator.core.states import State
from orchestrator.engine.items import Stopped
from orchestrator.engine.steps import Context
from orchestrator.job.rows.plan import PlannedBatch

__all__ = ["Planner"]


class Planner:
    """Adds the input's rows as pending requests, from where an earlier process left off.

    The mark of how far the input was read is committed with the rows, so planning twice adds nothing.
    """

    def __init__(
        self,
        context: Context,
        *,
        batches: Callable[[PlanMark], Iterator[PlannedBatch]],
        skip_bad_rows: bool,
        added: Callable[[], None],
        unblocked: Callable[[float], None],
    ) -> None:
        self._context = context
        self._run_status = context.flow
        self._batches = batches
        self._skip_bad_rows = skip_bad_rows
        self._planned_as = State.PENDING if context.settings.chain_mode is None else State.BLOCKED
        self._added = added
        self._unblocked = unblocked

    async def run(self) -> None:
        """Plan until the input ends; a bad row stops the run, and what was sent before it is still collected."""
        try:
            if not self._context.run.plan.complete and not await self._read():
                return
        except BadRow as error:
            self._run_status.error = error
            if self._run_status.in_flight:
                # What is open is waited for first, which may take long; the error itself ends the run.
                self._context.observe(Warned(code="bad_row", message=str(error)))
            self._run_status.stop(Stopped("bad_row", error.message, collect=True))
            return
        if self._context.settings.chain_mode is not None:
            await self._link_chains()
        self._run_status.planned = True
        self._context.progress.planning_done = True
        self._run_status.wake()

    async def _link_chains(self) -> None:
        """Let the first turn of each chain go; only now is it known which one that is."""
        now = self._context.clock.now()
        heads = await self._context.store.link_chains(self._context.run.id, now)
        self._context.progress.requests[State.BLOCKED] -= heads
        self._context.progress.requests[State.PENDING] += heads
        self._unblocked(now)

    async def _read(self) -> bool:
        """Read the input into the store; whether its end was reached."""
        # File reading and JSON parsing would hold up the replies that are coming in.
        batches = await to_thread.run_sync(self._batches, self._context.run.plan)
        while self._run_status.may_send:
            batch = await to_thread.run_sync(next, batches, None)
            if batch is None:
                return True
            await self._add(batch)
        return False

    async def _add(self, batch: PlannedBatch) -> None:
        context, progress = self._context, self._context.progress
        taken = await context.store.add_rows(
            context.run.id, batch.rows, batch.skipped, batch.mark, skip_taken=self._skip_bad_rows
        )
        if taken and not self._skip_bad_rows:
            raise key_taken(taken[0])
        added = len(batch.rows) - len(taken)
        progress.planned += added
        progress.requests[self._planned_as] += added
        for row in batch.skipped:
            context.observe(RowSkipped(where=row.where, reason=row.reason))
        for repeated in taken:
            context.observe(RowSkipped(where=repeated.where, reason=key_taken(repeated).message))
        self._added()


def key_taken(row: NewRequest) -> BadRow:
    """The error for a row whose key is not its own."""
    return BadRow(
        f"the key {row.key!r} was used by an earlier row",
        where=row.where,
        hint="make input.key name a column that is unique, or set input.on_bad_row: skip",
    )
