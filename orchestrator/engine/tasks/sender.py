"""Keeps requests made ready, and sends each as soon as the limits and the budget let it go."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from anyio import to_thread
from anyio.abc import TaskGroup

from orchestrator.engine import steps
from orchestrator.engine.items import (
    After,
    AwaitingTools,
    Finished,
    Held,
    Prepared,
    Queued,
    Returned,
    Stopped,
    Waiting,
)
from orchestrator.engine.preparation import Preparation, Unsendable, too_large
from orchestrator.engine.steps import Context
from orchestrator.engine.tasks.admission import Admission, admit
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.worker_pool import WorkerPool
from orchestrator.job.requests.turns import MOST_TURNS
from orchestrator.policy.polling.deadlines import may_send
from orchestrator.stores.base import Reader
from orchestrator.stores.reads import EarlierTurn, PendingRequest

__all__ = ["Sender"]

# So many requests are kept ready, rendered and encoded, while they wait for leave to be sent; retries that come due
# go before them, and are kept ready up to the second number.
_READY = 256
_MOST_READY = 512
# With whole files in them, requests are a thousand times as large.
_READY_WITH_FILES = 16


class Sender:
    """Takes pending requests from the store, oldest first and due retries before them, and submits them."""

    def __init__(
        self,
        context: Context,
        *,
        reader: Reader,
        preparation: Preparation,
        follow: Callable[[Waiting], None],
        run_tools: Callable[[AwaitingTools], None],
    ) -> None:
        self._context = context
        self._run_status = context.flow
        self._clock = context.clock
        self._reader = reader
        self._preparation = preparation
        self._follow = follow
        self._run_tools = run_tools
        self._deduplicator = Deduplicator(context, reader)
        self._queues: dict[str, deque[Prepared]] = {}
        # Requests read from the store and not yet claimed there: a second read must not prepare them twice.
        self._in_hand: set[int] = set()
        self._after_id = 0
        # Every row of the input was read and handed out once; what comes back is put off, not fresh.
        self._exhausted = False
        # The soonest moment at which a put-off request is due; 0 makes the first look ask the store.
        self._delayed_at: float | None = 0.0

    async def run(self, tasks: TaskGroup) -> None:
        """Send until nothing more may be sent; ends by itself when the flow says so."""
        flow, context = self._run_status, self._context
        crew = WorkerPool(tasks, self._send)
        while flow.may_send:
            await self._refill()
            now = self._clock.now()
            decision = admit(now, self._queues, pools=context.pools, budget=context.budget, places=self._places(now))
            if decision.admitted:
                context.create_circuit.probing(now)
                context.response_circuit.probing(now)
            for prepared in decision.admitted:
                flow.sending += 1
                crew.start(prepared)
            for prepared in decision.oversized:
                await steps.refuse(context, prepared.request, too_large(prepared.tokens))
                self._in_hand.discard(prepared.request.id)
                self._deduplicator.sent(prepared)
            self._note_empty()
            self._tell(decision.held_by, decision.ask_again_at)
            if decision.admitted or decision.oversized:
                continue
            if (stopped := self._stuck(decision)) is not None:
                flow.stop(stopped)
            else:
                await self._clock.wait(flow.sender, self._wake_at(now, decision.ask_again_at))

    # ── choosing ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _ready(self) -> int:
        return sum(map(len, self._queues.values()))

    def _stuck(self, decision: Admission) -> Stopped | None:
        """Why nothing can ever be sent again, where that is so and nothing in flight could change it."""
        if self._run_status.in_flight:
            return None
        budget = self._context.budget
        if decision.held_by == "budget" and not budget.waits_for_others:
            whose = "" if budget.short_of == "run" else f" of the {budget.short_of}'s budget"
            left = f"the worst case of the next request is more than what is left{whose}"
            return Stopped("budget", left, collect=True)
        only_later = self._run_status.planned and not self._ready and self._delayed_at is not None
        if only_later and not may_send(self._delayed_at or 0.0, self._context.run.deadline_at):
            return Stopped("deadline", "what is left would have to wait beyond the run's deadline", collect=True)
        return None

    def _places(self, now: float) -> int:
        """How many more creates may be on the wire now."""
        if self._context.settings.warm_cache and not self._context.progress.settled_here:
            # Alone, so that those which begin alike find its beginning in the provider's cache.
            return 0 if self._run_status.in_flight else 1
        context, flow, settings = self._context, self._run_status, self._context.settings
        at_once = settings.creates_at_once if context.creates.has_accepted else settings.first_creates_at_once
        free = min(at_once - flow.sending, settings.max_in_flight - flow.in_flight)
        by_creates = context.create_circuit.places(now, flow.sending)
        by_responses = context.response_circuit.places(now, flow.in_flight)
        return max(0, min(free, by_creates, by_responses))

    def _wake_at(self, now: float, ask_again_at: float | None) -> float | None:
        delayed_at = self._delayed_at if self._ready < _MOST_READY else None
        # A probe that is due already waits for a free place, which wakes us by itself.
        probe_at = self._probe_at if (self._probe_at or 0.0) > now else None
        moments = [moment for moment in (ask_again_at, delayed_at, probe_at) if moment is not None]
        return max(now, min(moments)) if moments else None

    @property
    def _probe_at(self) -> float | None:
        """When something may be sent in an outage; None where there is none."""
        circuits = (self._context.create_circuit, self._context.response_circuit)
        return max((circuit.next_probe_at for circuit in circuits if circuit.is_open), default=None)

    def _tell(self, held_by: str | None, until: float | None) -> None:
        if (probe_at := self._probe_at) is not None:
            held_by, until = "outage", probe_at
        self._context.progress.waiting_for = held_by
        self._context.progress.waiting_until = until

    # ── making ready ──────────────────────────────────────────────────────────────────────────────────────

    async def _refill(self) -> None:
        now = self._clock.now()
        if self._delayed_at is not None and self._delayed_at <= now and self._ready < _MOST_READY:
            await self._take_delayed(now)
        most = _READY_WITH_FILES if self._preparation.names_files else _READY
        # Again and again: of those that are read, many may share an answer or be refused, and nothing would wake us.
        while not self._exhausted and self._ready < most // 2 and self._run_status.may_send:
            # Asked before looking: what is planned from here on wakes the sender again.
            planned = self._run_status.planned
            fresh = await self._reader.fresh(self._context.run.id, after_id=self._after_id, limit=most)
            for request in fresh:
                self._after_id = request.id
            await self._make_ready(fresh, deque.append)
            self._exhausted = planned and not fresh
            if not fresh:
                break

    async def _take_delayed(self, now: float) -> None:
        """Put those that are due before all fresh ones, and note when the next is due."""
        # Those in hand are still pending in the store and come up again; this many more are new. When the answer
        # comes, one of them may have been sent and put off once more: what it says of them is out of date.
        in_hand = frozenset(self._in_hand)
        limit = len(in_hand) + _READY
        # What is put off while the answer is on its way is not in it, but is noted here meanwhile.
        self._delayed_at = math.inf
        delayed = await self._reader.delayed(self._context.run.id, limit=limit)
        waiting = [request for request in reversed(delayed) if request.id not in in_hand]
        for request in waiting:
            if request.not_before > now:
                self._delayed_at = min(self._delayed_at, request.not_before)
        await self._make_ready([request for request in waiting if request.not_before <= now], deque.appendleft)
        if len(delayed) == limit and delayed[-1].not_before <= now:
            self._delayed_at = now
        elif self._delayed_at == math.inf:
            self._delayed_at = None

    async def _make_ready(
        self, requests: Sequence[PendingRequest], put: Callable[[deque[Prepared], Prepared], None]
    ) -> None:
        ready: list[Prepared] = []
        for request in requests:
            prepared = await self._prepare(request)
            if isinstance(prepared, Unsendable):
                await steps.refuse(self._context, request, prepared)
            else:
                ready.append(prepared)
        for prepared in await self._deduplicator.leave_out(ready):
            self._in_hand.add(prepared.request.id)
            put(self._queues.setdefault(prepared.model, deque()), prepared)

    async def _prepare(self, request: PendingRequest) -> Prepared | Unsendable:
        earlier, now = await self._earlier_turns(request), self._clock.now()
        if self._preparation.names_files:
            return await to_thread.run_sync(self._preparation.prepare, request, now, earlier)
        return self._preparation.prepare(request, now, earlier)

    async def _earlier_turns(self, request: PendingRequest) -> Sequence[EarlierTurn]:
        """What must be carried along, where the provider does not keep it."""
        if request.follows is None or self._context.settings.chain_mode != "stateless":
            return ()
        return await self._reader.earlier_turns(request.id, limit=MOST_TURNS)

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, prepared: Prepared) -> None:
        after: After | None = None
        try:
            after = await steps.submit(self._context, prepared)
        finally:
            self._run_status.sending -= 1
            if not isinstance(after, Returned):
                self._in_hand.discard(prepared.request.id)
                self._deduplicator.sent(prepared)
        match after:
            case Waiting():
                self._follow(after)
            case Queued(not_before):
                self.put_off(not_before)
            case Returned(returned):
                self._queues[returned.model].appendleft(returned)
            case AwaitingTools():
                self._run_tools(after)
            case Finished(unblocked=True):
                self.put_off(self._clock.now())
            case Held():
                self._run_status.held += 1
            case Stopped():
                self._run_status.stop(after)
        self._note_empty()
        self._run_status.sender.set()
        self._run_status.notify_if_done()

    def put_off(self, not_before: float) -> None:
        """A request went back to the store's queue and is due at that moment."""
        self._delayed_at = not_before if self._delayed_at is None else min(self._delayed_at, not_before)
        self._run_status.queue_empty = False
        self._run_status.sender.set()

    def _note_empty(self) -> None:
        self._run_status.queue_empty = self._exhausted and not self._ready and self._delayed_at is None
        if self._run_status.queue_empty:
            self._run_status.notify_if_done()
