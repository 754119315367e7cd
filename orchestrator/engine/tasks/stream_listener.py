"""Reads the streams of responses, and has a response polled at once when its stream reports the end."""

from __future__ import annotations

import asyncio

import anyio

from orchestrator.engine.items import OpenResponse
from orchestrator.engine.run_context import RunContext
from orchestrator.executors.base import ResponseStreams
from orchestrator.policy.errors.stream_errors import cannot_stream
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.streaming import ENDINGS, EventStream, StreamEvent, StreamLost
from orchestrator.stores.stream_events import ProgressEvent

__all__ = ["StreamListener"]

# After this many vain attempts to open a stream it is left alone; the response is polled all the while.
_TRIES = 8


class StreamListener:
    """One task for each response, which is why only few may be streamed.

    Nothing depends on it: a response whose stream is lost for good is polled like any other.
    """

    def __init__(self, run: RunContext, streams: ResponseStreams) -> None:
        self._run = run
        self._streams = streams
        self._added: asyncio.Queue[tuple[OpenResponse, anyio.CancelScope]] = asyncio.Queue()
        # By attempt: those that are read or will be.
        self._scopes: dict[int, anyio.CancelScope] = {}

    async def run(self) -> None:
        """Read streams until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                tasks.start_soon(self._listen, *await self._added.get())

    def listen(self, open_: OpenResponse) -> None:
        """Read the stream of a response until it reports the end; each response is read once."""
        if open_.attempt_id not in self._scopes:
            scope = self._scopes[open_.attempt_id] = anyio.CancelScope()
            self._added.put_nowait((open_, scope))

    def stop(self, open_: OpenResponse) -> None:
        """The response is settled: its stream is of no more use."""
        self._run.status.poll_queue.forget(open_)
        self._streams.forget(open_.response_id)
        if (scope := self._scopes.pop(open_.attempt_id, None)) is not None:
            scope.cancel()

    async def _listen(self, open_: OpenResponse, scope: anyio.CancelScope) -> None:
        run = self._run
        with scope:
            after = await run.reader.last_progress(open_.attempt_id)
            stream = self._streams.take_stream(open_.response_id)
            tries = 0
            while tries < _TRIES:
                if stream is None:
                    answer = await self._streams.follow(open_.response_id, after=after)
                    if isinstance(answer, EventStream):
                        stream = answer
                    elif cannot_stream(answer):
                        return
                if stream is not None:
                    read_to, ended = await self._read(open_, stream, after)
                    if ended:
                        return
                    tries = tries if read_to == after else 0
                    after, stream = read_to, None
                tries += 1
                await run.clock.sleep_until(run.clock.now() + retry_wait(tries, run.rng))

    async def _read(self, open_: OpenResponse, stream: EventStream, after: int | None) -> tuple[int | None, bool]:
        """Keep the events of a stream; the number of the last one, and whether it reported the end."""
        try:
            async for event in stream:
                after = event.sequence if event.sequence is not None else (after or 0) + 1
                if not event.is_piece:
                    await self._keep(open_, event, after)
                if event.type in ENDINGS:
                    self._streams.keep_end(open_.response_id, event)
                    self._poll_now(open_)
                    return after, True
        except StreamLost:
            self._streams.forget(open_.response_id)
            return after, False
        finally:
            await stream.aclose()
        self._streams.forget(open_.response_id)
        # It closed without an event for the end, as it does if the response is cancelled.
        self._poll_now(open_)
        return after, False

    def _poll_now(self, open_: OpenResponse) -> None:
        status = self._run.status
        status.poll_queue.poll_now(open_, self._run.clock.now())
        status.poll_signal.set()

    async def _keep(self, open_: OpenResponse, event: StreamEvent, sequence: int) -> None:
        now = self._run.clock.now()
        kept = ProgressEvent(sequence=sequence, type=event.type, item=event.item_type, at=now)
        await self._run.store.add_progress(open_.attempt_id, [kept])
