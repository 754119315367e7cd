"""What happens after a step: the one place that decides which task continues with its outcome."""

from __future__ import annotations

import asyncio
from typing import assert_never

from orchestrator.engine.items import (
    After,
    AwaitingTools,
    AwaitsEvent,
    Finished,
    Halted,
    Held,
    Queued,
    Returned,
    Waiting,
)
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.engine.tasks.stream_listener import StreamListener

__all__ = ["Router"]


class Router:
    """Puts the outcome of each step where the next task takes it from: the send queue, the poll queue or the tools.

    The queues belong to no task, so a task needs the router but the router needs no task.
    """

    def __init__(self, run: RunContext, send_queue: SendQueue, *, listener: StreamListener | None = None) -> None:
        self._clock = run.clock
        self._status = run.status
        self._poll_queue = run.status.poll_queue
        self._send_queue = send_queue
        self._listener = listener
        self.awaiting_tools: asyncio.Queue[AwaitingTools] = asyncio.Queue()

    def route(self, after: After) -> None:
        """Pass the outcome of a step on."""
        match after:
            case Waiting():
                self._follow(after)
            case Finished():
                self._status.feed_signal.set()
                if after.unblocked:
                    self._send_queue.put_off(self._clock.now())
            case Queued(not_before):
                self._send_queue.put_off(not_before)
            case Returned(prepared):
                self._send_queue.take_back(prepared)
            case AwaitingTools():
                self._status.running_tools += 1
                self.awaiting_tools.put_nowait(after)
            case AwaitsEvent():
                self._status.await_event(after)
            case Held():
                self._status.held += 1
            case Halted():
                # What is open stays open on disk; a later process resumes it.
                self._status.halt(after)
            case _:
                assert_never(after)

    def _follow(self, waiting: Waiting) -> None:
        if self._listener is not None:
            self._listener.listen(waiting.open)
        if self._status.hints is not None:
            self._status.hints.opened(waiting.open, self._clock.now())
        if self._poll_queue.push(waiting):
            self._status.poll_signal.set()
