"""Makes pending requests ready to be sent, ahead of the sending: read, rendered, encoded, deduplicated."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from anyio import to_thread

from orchestrator.engine.items import Prepared
from orchestrator.engine.preparation import Preparation, Unsendable
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.steps import refuse
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.job.requests.turns import MOST_TURNS
from orchestrator.stores.reads import EarlierTurn, PendingRequest

__all__ = ["MOST_READY", "PendingRows", "Refill"]

# How many requests are kept ready; with retries that come due, up to the second number.
_READY = 256
MOST_READY = 512
# With whole files in them, requests are a thousand times as large.
_READY_WITH_FILES = 16


@dataclass(slots=True)
class _Cursor:
    """How far the fresh requests of a stage were read; ``exhausted`` once no more of them can come."""

    after_id: int = 0
    exhausted: bool = False
    # What there was when nothing more was found: how many additions, and whether the stage was sealed.
    dry_at: tuple[int, bool] | None = None


class PendingRows(Protocol):
    """The pending requests that this process may send, as ``PendingReader`` reads them."""

    async def fresh(self, stage: str, *, after_id: int, limit: int) -> list[PendingRequest]: ...

    async def delayed(self, *, limit: int) -> list[PendingRequest]: ...


class _WholeRun:
    """All of the run."""

    def __init__(self, run: RunContext) -> None:
        self._reader = run.reader
        self._run_id = run.record.id

    async def fresh(self, stage: str, *, after_id: int, limit: int) -> list[PendingRequest]:
        return await self._reader.fresh(self._run_id, stage=stage, after_id=after_id, limit=limit)

    async def delayed(self, *, limit: int) -> list[PendingRequest]:
        return await self._reader.delayed(self._run_id, limit=limit)


class Refill:
    """Fills the send queue from the store: due retries first, then fresh requests in input order."""

    def __init__(
        self,
        run: RunContext,
        queue: SendQueue,
        preparations: Mapping[str, Preparation],
        deduplicator: Deduplicator,
        rows: PendingRows | None = None,
    ) -> None:
        self._run = run
        self._rows = rows or _WholeRun(run)
        self._queue = queue
        self._preparations = preparations
        self._deduplicator = deduplicator
        self._cursors = {name: _Cursor() for name in run.stages if run.status.asks(name)}
        # Every row of every stage was read once; what is pending in the store was put off.
        self.exhausted = False
        self._rereads = False

    async def fill(self) -> None:
        """Make requests ready until there are enough, or no more are pending."""
        now, queue = self._run.clock.now(), self._queue
        while queue.to_reread:
            self._cursors[queue.to_reread.pop()] = _Cursor()
            self.exhausted, self._rereads = False, True
        if queue.delayed_at is not None and queue.delayed_at <= now and len(queue) < MOST_READY * len(self._cursors):
            await self._take_delayed(now)
        for name, cursor in self._cursors.items():
            if not cursor.exhausted:
                await self._take_fresh(self._run.stages[name], cursor)

    async def _take_fresh(self, stage: Stage, cursor: _Cursor) -> None:
        run = self._run
        most = _READY_WITH_FILES if self._preparations[stage.name].names_files else _READY
        # In a loop: if all that were read are duplicates or refused, nothing else would wake the sender.
        while not cursor.exhausted and self._queue.of_stage(stage.name) < most // 2 and run.status.may_send:
            # Before the store is asked: rows that are planned from here on wake the sender again.
            sealed = stage.name not in run.status.unsealed_stages
            asked_at = (run.status.additions[stage.name], sealed)
            if len(self._cursors) > 1 and cursor.dry_at == asked_at:
                return
            # What is in hand now is not to be made ready twice, if the stage is read again from its beginning.
            in_hand = frozenset(self._queue.in_hand) if self._rereads else ()
            fresh = await self._rows.fresh(stage.name, after_id=cursor.after_id, limit=most)
            if not fresh:
                cursor.exhausted = sealed
                cursor.dry_at = asked_at
                self.exhausted = all(each.exhausted for each in self._cursors.values())
                return
            cursor.after_id = fresh[-1].id
            await self._make_ready(stage, [each for each in fresh if each.id not in in_hand])

    async def _take_delayed(self, now: float) -> None:
        """Put those that are due before all fresh ones, and note when the next is due."""
        queue = self._queue
        # Those in hand are still pending in the store and come up again; this many more are new. When the answer
        # comes, one of them may have been sent and put off once more: what the answer says of it is out of date.
        in_hand = frozenset(queue.in_hand)
        limit = len(in_hand) + _READY
        # What is put off while the answer is on its way is not in it, but is noted here meanwhile.
        queue.delayed_at = math.inf
        delayed = await self._rows.delayed(limit=limit)
        due: defaultdict[str, list[PendingRequest]] = defaultdict(list)
        for request in reversed(delayed):
            if request.id in in_hand or not self._run.status.asks(request.stage):
                continue
            if request.not_before > now:
                queue.delayed_at = min(queue.delayed_at, request.not_before)
            else:
                due[request.stage].append(request)
        for name, requests in due.items():
            await self._make_ready(self._run.stages[name], requests, first=True)
        if len(delayed) == limit and delayed[-1].not_before <= now and (due or in_hand):
            queue.delayed_at = now
        elif queue.delayed_at == math.inf:
            queue.delayed_at = None

    async def _make_ready(self, stage: Stage, requests: Sequence[PendingRequest], *, first: bool = False) -> None:
        preparation, clock = self._preparations[stage.name], self._run.clock
        repeats_turns = stage.settings.chain_mode == "stateless"
        ready: list[Prepared] = []
        for request in requests:
            earlier: Sequence[EarlierTurn] = ()
            if repeats_turns and request.follows is not None:
                # The provider does not keep these turns, so the request must repeat them.
                earlier = await self._run.reader.earlier_turns(request.id, limit=MOST_TURNS)
            if preparation.names_files:
                prepared = await to_thread.run_sync(preparation.prepare, request, clock.now(), earlier)
            else:
                prepared = preparation.prepare(request, clock.now(), earlier)
            if isinstance(prepared, Unsendable):
                await refuse(self._run, request, prepared)
            else:
                ready.append(prepared)
        for prepared in await self._deduplicator.dedupe(ready, stage.settings):
            self._queue.add(prepared, first=first)
