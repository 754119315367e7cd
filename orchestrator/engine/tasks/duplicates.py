"""Requests that ask the same: sent once, and the answer shared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio

from orchestrator.core.states import SETTLED, State
from orchestrator.engine.items import Prepared
from orchestrator.engine.steps.context import Context
from orchestrator.engine.steps.notify import notify_shared
from orchestrator.stores.base import DuplicateReader
from orchestrator.stores.reads import Duplicate, PendingRequest

__all__ = ["Deduplicator"]


class Deduplicator:
    """Knows which requests are about to be sent, and asks the store for those that were."""

    def __init__(self, context: Context, reader: DuplicateReader) -> None:
        self._context = context
        self._reader = reader
        # Those made ready and not yet claimed in the store, by what they ask.
        self._to_be_sent: dict[bytes, int] = {}

    async def leave_out(self, ready: Sequence[Prepared]) -> list[Prepared]:
        """Those that must be sent; the others share the fate of an equal request from here on."""
        asked = {prepared.fingerprint for prepared in ready if prepared.fingerprint is not None}
        if not asked:
            return list(ready)
        known: dict[bytes, Duplicate] = {}
        if self._context.settings.ask_once:
            # Noted before the store is asked: who is claimed meanwhile is in neither place afterwards.
            known = {each: Duplicate(self._to_be_sent[each], here=True) for each in asked & self._to_be_sent.keys()}
        known |= await self._in_store(sorted(asked - known.keys()))
        to_be_sent: list[Prepared] = []
        # All at once, so that they are written in few groups.
        async with anyio.create_task_group() as tasks:
            for prepared in ready:
                request, fingerprint = prepared.request, prepared.fingerprint
                equal = self._equal_of(request.id, fingerprint, known) if fingerprint is not None else None
                if fingerprint is None or equal is None:
                    to_be_sent.append(prepared)
                else:
                    tasks.start_soon(self._join, request, equal, fingerprint)
        return to_be_sent

    def sent(self, prepared: Prepared) -> None:
        """The request is claimed in the store: it is found there from now on."""
        if prepared.fingerprint is not None:
            self._to_be_sent.pop(prepared.fingerprint, None)

    async def _in_store(self, fingerprints: Sequence[bytes]) -> dict[bytes, Duplicate]:
        settings = self._context.settings
        age_s = settings.reuse_max_age_s
        since = math.inf if age_s is None else self._context.clock.now() - age_s
        return await self._reader.duplicates(self._context.run.id, fingerprints, here=settings.ask_once, since=since)

    def _equal_of(self, request_id: int, fingerprint: bytes, known: dict[bytes, Duplicate]) -> Duplicate | None:
        """Whose fate it shares; None where it is to be sent, as the one whose fate others share from now on."""
        equal = known.get(fingerprint)
        if equal is not None and equal.request_id != request_id:
            return equal
        if self._context.settings.ask_once:
            self._to_be_sent[fingerprint] = request_id
            known[fingerprint] = Duplicate(request_id, here=True)
        return None

    async def _join(self, request: PendingRequest, equal: Duplicate, fingerprint: bytes) -> None:
        context = self._context
        moved = await context.store.join(request.id, equal, fingerprint, context.clock.now())
        if moved is not None:
            context.count(State.PENDING, moved.to)
            if moved.to in SETTLED:
                notify_shared(context, moved.key, moved.to, moved.code)
