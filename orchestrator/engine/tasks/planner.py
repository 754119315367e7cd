"""Reads the input into the store, ahead of the sending and apart from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from anyio import to_thread

from orchestrator.core.errors import BadRow
from orchestrator.core.events import RowSkipped
from orchestrator.core.model import NewRequest, PlanMark, SkippedRow
from orchestrator.core.states import Event, State, first_state, move
from orchestrator.engine.increments import Night
from orchestrator.engine.items import Halted
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.job.rows.plan import PlannedBatch

__all__ = ["Planner", "key_taken"]


class Planner:
    """Adds the rows of the input as pending requests of a stage, from where an earlier process stopped.

    Without a ``stage`` they are of several, which the stage feeder seals.

    How far the input was read is committed with the rows, so planning twice adds nothing.
    """

    def __init__(
        self,
        run: RunContext,
        stage: Stage | None,
        queue: SendQueue,
        *,
        batches: Callable[[PlanMark], Iterator[PlannedBatch]],
        skip_bad_rows: bool,
        night: Night | None = None,
    ) -> None:
        self._run = run
        self._stage = stage
        self._queue = queue
        self._batches = batches
        self._skip_bad_rows = skip_bad_rows
        self._has_chains = stage is not None and stage.settings.chain_mode is not None
        self._night = night
        self._skipped = 0

    async def run(self) -> None:
        """Plan until the input ends; a bad row halts the run, and what was sent before it is still collected."""
        run = self._run
        try:
            if not run.record.plan.complete and not await self._read_all():
                return
        except BadRow as error:
            run.status.error = error
            if run.status.in_flight:
                # What is open is waited for first, which may take long; only then does the error end the run.
                run.observation.warn("bad_row", str(error))
            run.status.halt(Halted("bad_row", error.message, collect=True))
            return
        if self._has_chains:
            await self._link_chains()
        run.observation.progress.planning_done = True
        if self._stage is not None:
            run.status.seal(self._stage.name)
        else:
            run.status.wake()

    async def _link_chains(self) -> None:
        """Unblock the first turn of each chain; only now is it known which one that is."""
        run, now = self._run, self._run.clock.now()
        heads = await run.store.link_chains(run.record.id, now)
        requests = run.observation.progress.requests
        requests[State.BLOCKED] -= heads
        requests[move(State.BLOCKED, Event.UNBLOCK)] += heads
        self._queue.put_off(now)

    async def _read_all(self) -> bool:
        """Read the input, as often as needed; True if its end was reached and what it holds may be sent."""
        night = self._night
        if night is None:
            return await self._read(self._run.record.plan)
        for wanted in night.passes:
            night.begin_pass(wanted)
            self._skipped = 0
            if not await self._read(PlanMark(position=0, complete=False)):
                return False
        halted = await night.end_reading(complete=not self._skipped)
        if halted is not None:
            self._run.status.halt(halted)
            return False
        # Only now: a process that resumes the run before must compare all rows again.
        await self._add(PlannedBatch([], [], PlanMark(position=0, complete=True)))
        return True

    async def _read(self, start: PlanMark) -> bool:
        """Read the input into the store; True if its end was reached."""
        # In a thread: reading files and parsing JSON would hold up the replies that are coming in.
        batches = await to_thread.run_sync(self._batches, start)
        while self._run.status.may_send:
            batch = await to_thread.run_sync(next, batches, None)
            if batch is None:
                return True
            await self._add(batch if self._night is None else await self._changed(batch, self._night))
        return False

    async def _changed(self, batch: PlannedBatch, night: Night) -> PlannedBatch:
        """The rows of a batch that this reading of the input asks."""
        rows, repeated = await night.choose(batch.rows)
        if repeated and not self._skip_bad_rows:
            raise key_taken(repeated[0])
        again = [
            SkippedRow(position=row.position, where=row.where, reason=key_taken(row).message) for row in repeated
        ]
        skipped = [*batch.skipped, *again]
        self._skipped += len(skipped)
        return PlannedBatch(
            rows, skipped if night.is_first_pass else [], PlanMark(position=batch.mark.position, complete=False)
        )

    async def _add(self, batch: PlannedBatch) -> None:
        run, observation = self._run, self._run.observation
        taken = await run.store.add_rows(
            run.record.id, batch.rows, batch.skipped, batch.mark, skip_taken=self._skip_bad_rows, groups=batch.groups
        )
        if taken and not self._skip_bad_rows:
            raise key_taken(taken[0])
        added = len(batch.rows) - len(taken)
        observation.progress.planned += added
        observation.progress.requests[first_state(in_chain=self._has_chains)] += added
        observation.progress.planned += len(batch.groups)
        observation.progress.requests[State.BLOCKED] += len(batch.groups)
        for row in batch.skipped:
            observation.observe(RowSkipped(where=row.where, reason=row.reason))
        for repeated in taken:
            observation.observe(RowSkipped(where=repeated.where, reason=key_taken(repeated).message))
        run.status.added({row.stage for row in batch.rows})


def key_taken(row: NewRequest) -> BadRow:
    """The error for a row whose key an earlier row has."""
    return BadRow(
        f"the key {row.key!r} was used by an earlier row",
        where=row.where,
        hint="make input.key name a column that is unique, or set input.on_bad_row: skip",
    )
