"""The shards that this process holds of a run: it takes another one when it needs more requests to send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack

from orchestrator.core.errors import RunBusy
from orchestrator.core.model import MAIN_STAGE
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import Recover
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.stores.reads import PendingRequest
from orchestrator.stores.shards import Shard, ShardReader

__all__ = ["HeldShards", "ShardSource"]


class ShardSource:
    """The shards of a run, and how one is locked: ``lock`` raises ``RunBusy`` if another process holds it."""

    def __init__(
        self,
        reader: ShardReader,
        shards: Iterable[Shard],
        *,
        lock: Callable[[int], AbstractContextManager[object]],
        locks: ExitStack,
    ) -> None:
        """``locks`` keeps the shards until the process has ended its work, because their requests may come back."""
        self.reader = reader
        self._locks = locks
        self._left = deque(shards)
        self._lock = lock

    async def take(self, run_id: int) -> Shard | None:
        """Lock the next shard that has work and that no other process holds; None if there is none."""
        while self._left:
            shard = self._left.popleft()
            if not await self.reader.has_unsettled(run_id, shard):
                continue
            try:
                self._locks.enter_context(self._lock(shard.number))
            except RunBusy:
                continue
            return shard
        return None


class HeldShards:
    """The pending requests of the shards that this process holds; a new one is recovered as a run is."""

    def __init__(
        self, run: RunContext, queue: SendQueue, source: ShardSource, *, recover: Recover, router: Router
    ) -> None:
        self._run = run
        self._queue = queue
        self._source = source
        self._recover = recover
        self._router = router
        self._held: list[Shard] = []

    async def fresh(self, stage: str, *, after_id: int, limit: int) -> list[PendingRequest]:
        """The next fresh requests; takes shards until one has some."""
        run_id = self._run.record.id
        for shard in self._held:
            if shard.last_id > after_id and (found := await self._fresh_in(shard, stage, after_id, limit)):
                return found
        while (taken := await self._source.take(run_id)) is not None:
            await self._open(taken)
            if found := await self._fresh_in(taken, stage, after_id, limit):
                return found
        self._run.status.seal(MAIN_STAGE)
        return []

    async def delayed(self, *, limit: int) -> list[PendingRequest]:
        return await self._source.reader.delayed_in(self._run.record.id, self._held, limit=limit)

    async def _fresh_in(self, shard: Shard, stage: str, after_id: int, limit: int) -> list[PendingRequest]:
        return await self._source.reader.fresh_in(
            self._run.record.id, shard, stage=stage, after_id=after_id, limit=limit
        )

    async def _open(self, shard: Shard) -> None:
        """Resume what the process that held the shard before has left open."""
        self._held.append(shard)
        for attempt in await self._source.reader.open_in(self._run.record.id, shard):
            self._router.route(await self._recover.recover(attempt))
        self._queue.put_off(self._run.clock.now())
