"""Polls each open response when it is likely to have ended, within the allowance for polls."""

from __future__ import annotations

import anyio

from orchestrator.engine.items import OpenResponse, Waiting
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import RunEndpoint
from orchestrator.engine.steps import Poll
from orchestrator.engine.tasks.stream_listener import StreamListener
from orchestrator.engine.tasks.worker_pool import WorkerPool
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.policy.polling.announcements import Announced

__all__ = ["Poller"]


class Poller:
    """For each endpoint a heap of due times, a rate limit of its own, and a bounded number of polls on the wire."""

    def __init__(
        self,
        run: RunContext,
        *,
        poll: Poll,
        router: Router,
        listener: StreamListener | None = None,
    ) -> None:
        self._run = run
        self._status = run.status
        self._queue = run.status.poll_queue
        self._step = poll
        self._router = router
        self._listener = listener
        # At which endpoints something is due and waits until a poll on the wire ends.
        self._full = [False] * len(run.endpoints)

    async def run(self) -> None:
        """Follow open responses until cancelled."""
        clock = self._run.clock
        async with anyio.create_task_group() as tasks:
            workers = WorkerPool(tasks, self._poll)
            while True:
                wake_at = self._start_due(clock.now(), workers)
                await clock.wait(self._status.poll_signal, wake_at)

    def _start_due(self, now: float, workers: WorkerPool[OpenResponse]) -> float | None:
        """Start the polls that are due and allowed; when to come back, None if only an event can change that."""
        status = self._status
        announced = Announced.NOT if status.hints is None else status.hints.announcements.announced
        for stage in self._run.stages.values():
            stage.schedules.adapt(nothing_to_send=status.only_polls, announced=announced)
        wake_at: float | None = None
        for place, endpoint in enumerate(self._run.endpoints):
            at = self._start_due_at(place, endpoint, now, workers)
            if at is not None and (wake_at is None or at < wake_at):
                wake_at = at
        return wake_at

    def _start_due_at(
        self, place: int, endpoint: RunEndpoint, now: float, workers: WorkerPool[OpenResponse]
    ) -> float | None:
        status, queue, breaker = self._status, self._queue.of(place), endpoint.outages.polls
        polls = endpoint.allowances.polls
        self._full[place] = False
        while (due := queue.next_due) is not None and due <= now:
            if not status.may_poll:
                return None
            if not _places(endpoint, now):
                self._full[place] = True
                return breaker.next_probe_at if breaker.is_open else None
            waiting = queue.pop()
            if not waiting.forced and self._too_early(waiting.open, now):
                continue
            if not polls.take(now, 0):
                queue.push(waiting)
                return polls.ready_at(now, 0)
            breaker.probing(now)
            status.polling += 1
            endpoint.polling += 1
            workers.start(waiting.open)
        return due

    def _too_early(self, open_: OpenResponse, now: float) -> bool:
        """Ask the schedule once more before a poll is spent: what it has learned meanwhile may say wait."""
        if open_.stage.schedules.of(open_.model).due(open_.watch, now):
            return False
        self._queue.push(Waiting(open_, open_.watch.due_at))
        return True

    def _note_end(self, hints: WebhookHints, open_: OpenResponse) -> None:
        """A response that was given up, or whose end no poll saw, says nothing about announcements."""
        hints.ended(open_, self._run.clock.now(), seen=open_.given_up is None and not open_.misses)

    async def _poll(self, open_: OpenResponse) -> None:
        status = self._status
        try:
            after = await self._step.poll(open_)
        finally:
            status.polling -= 1
            self._run.endpoints[open_.endpoint].polling -= 1
        if self._full[open_.endpoint]:
            status.poll_signal.set()
        self._router.route(after)
        if isinstance(after, Waiting):
            if not status.may_poll:
                status.end_signal.set()
            return
        if self._listener is not None:
            self._listener.stop(open_)
        if status.hints is not None:
            self._note_end(status.hints, open_)
        status.send_signal.set()
        status.notify_if_done()


def _places(endpoint: RunEndpoint, now: float) -> int:
    polling = endpoint.polling
    return min(endpoint.allowances.polls_at_once - polling, endpoint.outages.polls.places(now, polling))
