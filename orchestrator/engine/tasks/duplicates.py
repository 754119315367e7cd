"""Duplicates: requests that ask the same are sent once, and share the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio

from orchestrator.engine.items import After, Prepared, Returned
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.settings import StageSettings
from orchestrator.engine.steps.other_runs import OtherRuns
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.stores.reads import Duplicate, OtherRequest, PendingRequest

__all__ = ["Deduplicator"]


class Deduplicator:
    """Finds requests with the same fingerprint: in memory those in hand, in the store all others.

    ``route`` receives the outcome of a request that another run asks too.
    """

    def __init__(
        self, run: RunContext, queue: SendQueue, other_runs: OtherRuns, *, route: Callable[[After], None]
    ) -> None:
        self._run = run
        self._queue = queue
        self._other_runs = other_runs
        self._route = route

    async def dedupe(self, ready: Sequence[Prepared], settings: StageSettings) -> list[Prepared]:
        """Those that must be sent; each other one is joined to its duplicate and ends as that one does."""
        asked = {prepared.fingerprint for prepared in ready if prepared.fingerprint is not None}
        if not asked:
            return list(ready)
        known = await self._known(asked) if settings.ask_once else {}
        others = await self._others(ready, known)
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
                if fingerprint in others:
                    tasks.start_soon(self._follow, prepared, others[fingerprint], to_send)
                else:
                    to_send.append(prepared)
        return to_send

    async def _known(self, asked: set[bytes]) -> dict[bytes, Duplicate]:
        """Earlier requests of this run by fingerprint."""
        # Before the store is asked: a request that is claimed meanwhile would be found in neither place.
        in_hand = self._queue.asked
        known = {each: Duplicate(in_hand[each], here=True) for each in asked & in_hand.keys()}
        left = sorted(asked - known.keys())
        return known | await self._run.reader.duplicates(self._run.record.id, left)

    async def _others(
        self, ready: Sequence[Prepared], known: Mapping[bytes, Duplicate]
    ) -> dict[bytes, list[OtherRequest]]:
        """Requests of other runs by fingerprint, for what this run has not asked itself."""
        wanted = {
            prepared.fingerprint: prepared.others_since
            for prepared in ready
            if prepared.fingerprint is not None and prepared.others_since is not None
            if (earlier := known.get(prepared.fingerprint)) is None or earlier.request_id == prepared.request.id
        }
        return await self._run.reader.others(self._run.record.id, wanted) if wanted else {}

    async def _join(self, request: PendingRequest, earlier: Duplicate, fingerprint: bytes) -> None:
        run = self._run
        moved = await run.store.join(request.id, earlier, fingerprint, run.clock.now())
        if moved:
            run.observation.joined(moved)

    async def _follow(self, prepared: Prepared, others: Sequence[OtherRequest], to_send: list[Prepared]) -> None:
        after = await self._other_runs.follow(prepared, others)
        if isinstance(after, Returned):
            to_send.append(prepared)
            return
        # It is in the store now that later duplicates find it.
        if prepared.fingerprint is not None:
            self._queue.asked.pop(prepared.fingerprint, None)
        self._route(after)
