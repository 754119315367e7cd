"""Duplicates: requests that ask the same are sent once, and share the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio

from orchestrator.core.states import SETTLED, State
from orchestrator.engine.items import Prepared
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.settings import StageSettings
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.stores.reads import Duplicate, PendingRequest

__all__ = ["Deduplicator"]


class Deduplicator:
    """Finds earlier requests with the same fingerprint: in memory those in hand, in the store all others."""

    def __init__(self, run: RunContext, queue: SendQueue) -> None:
        self._run = run
        self._queue = queue

    async def dedupe(self, ready: Sequence[Prepared], settings: StageSettings) -> list[Prepared]:
        """Those that must be sent; each other one is joined to its duplicate and ends as that one does."""
        asked = {prepared.fingerprint for prepared in ready if prepared.fingerprint is not None}
        if not asked:
            return list(ready)
        known = await self._known(asked, settings)
        to_send: list[Prepared] = []
        # All at once, so that they are written in few transactions.
        async with anyio.create_task_group() as tasks:
            for prepared in ready:
                request, fingerprint = prepared.request, prepared.fingerprint
                if fingerprint is None:
                    to_send.append(prepared)
                    continue
                earlier = known.get(fingerprint)
                if earlier is not None and earlier.request_id != request.id:
                    tasks.start_soon(self._join, request, earlier, fingerprint)
                    continue
                if settings.ask_once:
                    self._queue.asked[fingerprint] = request.id
                    known[fingerprint] = Duplicate(request.id, here=True)
                to_send.append(prepared)
        return to_send

    async def _known(self, asked: set[bytes], settings: StageSettings) -> dict[bytes, Duplicate]:
        """Earlier requests by fingerprint."""
        known: dict[bytes, Duplicate] = {}
        if settings.ask_once:
            # Before the store is asked: a request that is claimed meanwhile would be found in neither place.
            in_hand = self._queue.asked
            known = {each: Duplicate(in_hand[each], here=True) for each in asked & in_hand.keys()}
        age_s = settings.reuse_max_age_s
        since = math.inf if age_s is None else self._run.clock.now() - age_s
        others = sorted(asked - known.keys())
        return known | await self._run.reader.duplicates(
            self._run.record.id, others, here=settings.ask_once, since=since
        )

    async def _join(self, request: PendingRequest, earlier: Duplicate, fingerprint: bytes) -> None:
        run = self._run
        moved = await run.store.join(request.id, earlier, fingerprint, run.clock.now())
        if moved is not None:
            run.observation.count(State.PENDING, moved.to)
            if moved.to in SETTLED:
                run.observation.settled_unsent(moved.key, moved.to, moved.code)
