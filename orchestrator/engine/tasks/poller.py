"""Looks at each open response when it is likely to be done, within the allowance for polls."""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from orchestrator.engine import steps
from orchestrator.engine.items import AwaitingTools, Finished, OpenResponse, Queued, Stopped, Waiting
from orchestrator.engine.steps import Context
from orchestrator.engine.tasks.poll_queue import PollQueue
from orchestrator.engine.tasks.stream_listener import StreamListener
from orchestrator.engine.tasks.worker_pool import WorkerPool

__all__ = ["Poller"]


class Poller:
    """One heap of due times, one limiter of its own, and a bounded number of looks on the wire."""

    def __init__(
        self,
        context: Context,
        *,
        requeued: Callable[[float], None],
        run_tools: Callable[[AwaitingTools], None],
        listener: StreamListener | None = None,
    ) -> None:
        self._context = context
        self._run_status = context.flow
        self._requeued = requeued
        self._run_tools = run_tools
        self._listener = listener
        # Responses of which a stream said that they ended, while a look at them was on the wire.
        self._nudged: set[int] = set()
        self._queue = PollQueue()
        # Something is due, and waits for a look on the wire to end.
        self._full = False

    def add(self, waiting: Waiting) -> None:
        """Follow a response that has just been accepted, or that an earlier process left open."""
        self._run_status.open += 1
        if self._listener is not None:
            self._listener.add(waiting.open)
        self._push(waiting)

    def nudge(self, open_: OpenResponse) -> None:
        """Look at one response now: its stream says that it has ended."""
        if not self._queue.pull_one_forward(open_, self._context.clock.now()):
            self._nudged.add(open_.attempt_id)
        self._run_status.poller.set()

    def hurry(self) -> None:
        """Look at everything now, as far as the allowance lets us."""
        self._queue.pull_forward(self._context.clock.now())
        self._run_status.poller.set()

    async def run(self, tasks: TaskGroup) -> None:
        """Follow open responses until cancelled."""
        clock = self._context.clock
        crew = WorkerPool(tasks, self._look)
        while True:
            wake_at = self._start_due(clock.now(), crew)
            await clock.wait(self._run_status.poller, wake_at)

    def _start_due(self, now: float, crew: WorkerPool[OpenResponse]) -> float | None:
        """Start the looks that are due and allowed; when to come back, None for when something happens."""
        context, flow = self._context, self._run_status
        context.schedules.nothing_to_send(flow.planned and flow.queue_empty and not flow.sending)
        self._full = False
        while (due := self._queue.next_due) is not None and due <= now:
            if flow.breaking_off:
                return None
            if not self._places(now):
                self._full = True
                return context.poll_circuit.next_probe_at if context.poll_circuit.is_open else None
            waiting = self._queue.pop()
            if not waiting.forced and self._too_early(waiting.open, now):
                continue
            if not context.polls.take(now, 0):
                self._queue.push(waiting)
                return context.polls.ready_at(now, 0)
            context.poll_circuit.probing(now)
            flow.looking += 1
            crew.start(waiting.open)
        return due

    def _places(self, now: float) -> int:
        free = self._context.settings.polls_at_once - self._run_status.looking
        return min(free, self._context.poll_circuit.places(now, self._run_status.looking))

    def _too_early(self, open_: OpenResponse, now: float) -> bool:
        """Ask the schedule once more before a look is spent: what others told meanwhile may say wait."""
        if self._context.schedules.of(open_.model).due(open_.watch, now):
            return False
        self._queue.push(Waiting(open_, open_.watch.due_at))
        return True

    async def _look(self, open_: OpenResponse) -> None:
        try:
            after = await steps.poll(self._context, open_)
        finally:
            self._run_status.looking -= 1
        if self._full:
            self._run_status.poller.set()
        if isinstance(after, Waiting):
            self._push(self._hurried(after))
            if self._run_status.breaking_off:
                self._run_status.changed.set()
            return
        self._nudged.discard(open_.attempt_id)
        if self._listener is not None:
            self._listener.leave(open_)
        self._run_status.open -= 1
        match after:
            case Queued(not_before):
                self._requeued(not_before)
            case AwaitingTools():
                self._run_tools(after)
            case Finished(unblocked=True):
                self._requeued(self._context.clock.now())
            case Stopped():
                # The response stays open on disk; a later process goes on with it.
                self._run_status.stop(after)
        self._run_status.sender.set()
        self._run_status.notify_if_done()

    def _hurried(self, waiting: Waiting) -> Waiting:
        """The next look at once, where a nudge came during the last one."""
        if waiting.open.attempt_id not in self._nudged:
            return waiting
        self._nudged.discard(waiting.open.attempt_id)
        return Waiting(waiting.open, self._context.clock.now(), forced=True)

    def _push(self, waiting: Waiting) -> None:
        if self._queue.push(waiting):
            self._run_status.poller.set()
