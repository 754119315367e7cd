"""Polls responses again that were given up, so that few costs stay unknown and few reservations stay held."""

from __future__ import annotations

import anyio

from orchestrator.engine.funds import Funds
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import settle_late_cost
from orchestrator.executors.registry import DEFAULT_LANE
from orchestrator.stores.reads import Uncosted

__all__ = ["LateCosts"]

# At most this many responses are polled, this many at once; at the end of a run for at most this long.
_MOST = 1_000
_AT_ONCE = 16
_LONGEST_AT_END_S = 5.0


class LateCosts:
    """Polls responses that were given up: when a run begins, and when nothing else is left to do."""

    def __init__(self, run: RunContext, funds: Funds) -> None:
        self._run = run
        self._funds = funds

    async def run(self) -> None:
        """Poll all of them; a cost that becomes known may let the sender continue."""
        executor = self._run.endpoints[0].executors.of(DEFAULT_LANE)
        if not self._run.observation.progress.cost_unknown or not executor.capabilities.poll:
            return
        uncosted = await self._run.reader.uncosted(self._run.record.id, limit=_MOST)
        places = anyio.CapacityLimiter(_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for attempt in uncosted:
                tasks.start_soon(self._settle, attempt, places)

    async def finish(self) -> None:
        """Poll a last time, but not for long: the run is over."""
        with anyio.move_on_after(_LONGEST_AT_END_S):
            await self.run()

    async def _settle(self, attempt: Uncosted, places: anyio.CapacityLimiter) -> None:
        run, place = self._run, self._run.places.get(attempt.endpoint)
        if place is None:
            return  # its endpoint is in the config no more
        endpoint = run.endpoints[place]
        polls = endpoint.allowances.polls
        async with places:
            while not polls.take(now := run.clock.now(), 0):
                await run.clock.sleep_until(polls.ready_at(now, 0))
            if await settle_late_cost(run, place, self._funds, attempt):
                run.status.send_signal.set()
