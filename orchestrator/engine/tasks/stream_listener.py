"""Hears what streamed responses tell of their progress, and has the poller look when one says that it has ended."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from orchestrator.engine.items import OpenResponse
from orchestrator.engine.steps import Context
from orchestrator.executors.streamed import StreamedExecutor
from orchestrator.policy.errors.stream_errors import cannot_stream
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.streaming import ENDINGS, EventStream, StreamEvent, StreamLost
from orchestrator.stores.stream_events import ProgressEvent, StreamEventReader

__all__ = ["StreamListener"]

# So often a stream is opened in vain before it is left alone; polling goes on all the while.
_TRIES = 8


class StreamListener:
    """One task for each response, which is why only few may be streamed.

    Nothing depends on it: a response whose stream is lost, and cannot be had again, is polled like any other.
    """

    def __init__(
        self,
        context: Context,
        *,
        executor: StreamedExecutor,
        reader: StreamEventReader,
        nudge: Callable[[OpenResponse], None],
    ) -> None:
        self._context = context
        self._executor = executor
        self._reader = reader
        self._nudge = nudge
        self._tasks: TaskGroup
        self._scopes: dict[int, anyio.CancelScope] = {}

    def start_in(self, tasks: TaskGroup) -> None:
        """Listen to all that is added in these tasks; before anything is."""
        self._tasks = tasks

    def add(self, open_: OpenResponse) -> None:
        """Listen to a response until it says that it has ended."""
        scope = self._scopes[open_.attempt_id] = anyio.CancelScope()
        self._tasks.start_soon(self._listen, open_, scope)

    def leave(self, open_: OpenResponse) -> None:
        """The response is settled: its stream is of no more use."""
        if (scope := self._scopes.pop(open_.attempt_id, None)) is not None:
            scope.cancel()

    async def _listen(self, open_: OpenResponse, scope: anyio.CancelScope) -> None:
        with scope:
            after = await self._reader.last_progress(open_.attempt_id)
            stream = self._executor.take_stream(open_.response_id)
            tries = 0
            while tries < _TRIES:
                if stream is None:
                    answer = await self._executor.follow(open_.response_id, after=after)
                    if isinstance(answer, EventStream):
                        stream = answer
                    elif cannot_stream(answer):
                        return
                if stream is not None:
                    heard_to, ended = await self._hear(open_, stream, after)
                    if ended:
                        return
                    tries = tries if heard_to == after else 0
                    after, stream = heard_to, None
                tries += 1
                wait_s = retry_wait(tries, self._context.rng)
                await self._context.clock.sleep_until(self._context.clock.now() + wait_s)

    async def _hear(self, open_: OpenResponse, stream: EventStream, after: int | None) -> tuple[int | None, bool]:
        """Keep what a stream tells; how far it was heard, and whether that was the end of the response."""
        try:
            async for event in stream:
                after = event.sequence if event.sequence is not None else (after or 0) + 1
                if not event.is_piece:
                    await self._keep(open_, event, after)
                if event.type in ENDINGS:
                    self._nudge(open_)
                    return after, True
        except StreamLost:
            return after, False
        finally:
            await stream.aclose()
        # It ended without a word, as it does where the response is cancelled.
        self._nudge(open_)
        return after, False

    async def _keep(self, open_: OpenResponse, event: StreamEvent, sequence: int) -> None:
        now = self._context.clock.now()
        kept = ProgressEvent(sequence=sequence, type=event.type, item=event.item_type, at=now)
        await self._context.store.add_progress(open_.attempt_id, [kept])
