"""Asks once more for what was given up, so that as little as possible stays unknown and set aside."""

from __future__ import annotations

import anyio

from orchestrator.engine import steps
from orchestrator.engine.steps import Context
from orchestrator.stores.base import CostReader
from orchestrator.stores.reads import Uncosted

__all__ = ["LateCosts"]

# So many of them are asked for at most, this many at once, and at the end of a run for so long at most.
_MOST = 1_000
_AT_ONCE = 16
_PATIENCE_AT_THE_END_S = 5.0


class LateCosts:
    """Looks at responses that were given up when a run begins, and once more when nothing else is left to do."""

    def __init__(self, context: Context, *, reader: CostReader) -> None:
        self._context = context
        self._reader = reader

    async def run(self) -> None:
        """Ask for all there are; what is found may let the sender go on."""
        if not self._context.progress.cost_unknown:
            return
        uncosted = await self._reader.uncosted(self._context.run.id, limit=_MOST)
        places = anyio.CapacityLimiter(_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for attempt in uncosted:
                tasks.start_soon(self._ask, attempt, places)

    async def finish(self) -> None:
        """Ask a last time, but not for long: the run is over."""
        with anyio.move_on_after(_PATIENCE_AT_THE_END_S):
            await self.run()

    async def _ask(self, attempt: Uncosted, places: anyio.CapacityLimiter) -> None:
        context = self._context
        async with places:
            while not context.polls.take(now := context.clock.now(), 0):
                await context.clock.sleep_until(context.polls.ready_at(now, 0))
            if await steps.settle_late_cost(context, attempt):
                context.flow.sender.set()
