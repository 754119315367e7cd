"""Keeps requests made ready, and sends each as soon as the limits and the budget let it go."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anyio.abc import TaskGroup

from orchestrator.engine import steps
from orchestrator.engine.admission import admit
from orchestrator.engine.preparation import Preparation, Unsendable
from orchestrator.engine.steps import Context
from orchestrator.engine.work import After, Held, Prepared, Queued, Returned, Stopped, Waiting
from orchestrator.policy.deadlines import may_send
from orchestrator.stores.base import PendingRequest, Reader

__all__ = ["Sender"]

# So many requests are kept ready, rendered and encoded, while they wait for leave to be sent.
READY = 256


class Sender:
    """Takes pending requests from the store, oldest first and due retries before them, and submits them."""

    def __init__(
        self, context: Context, *, reader: Reader, preparation: Preparation, follow: Callable[[Waiting], None]
    ) -> None:
        self._context = context
        self._flow = context.flow
        self._clock = context.clock
        self._reader = reader
        self._preparation = preparation
        self._follow = follow
        self._queues: dict[str, deque[Prepared]] = {}
        # Requests read from the store and not yet claimed there: a second read must not prepare them twice.
        self._in_hand: set[int] = set()
        self._after_id = 0
        # The soonest moment at which a put-off request is due; 0 makes the first look ask the store.
        self._delayed_at: float | None = 0.0

    async def run(self, tasks: TaskGroup) -> None:
        """Send until nothing more may be sent; ends by itself when the flow says so."""
        flow = self._flow
        while flow.may_send:
            await self._refill()
            now = self._clock.now()
            places = self._places(now)
            decision = admit(now, self._queues, pools=self._context.pools, budget=self._context.budget, places=places)
            for prepared in decision.admitted:
                flow.sending += 1
                tasks.start_soon(self._send, prepared)
            self._tell(decision.held_by, decision.ask_again_at)
            if self._waits_past_deadline:
                flow.stop(Stopped("deadline", "what is left would have to wait beyond the run's deadline", True))
            if decision.held_by == "budget" and not flow.in_flight:
                flow.stop(
                    Stopped("budget", "the worst case of the next request does not fit into what is left", True)
                )
            if not decision.admitted or self._ready < READY // 2:
                await self._clock.wait(flow.sender, self._wake_at(now, decision.ask_again_at))

    # ── choosing ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _ready(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def _waits_past_deadline(self) -> bool:
        """Nothing is left but retries that come due after the deadline: that wait is not waited."""
        at = self._delayed_at
        only_delayed = self._flow.planned and not self._ready and not self._flow.in_flight
        return at is not None and only_delayed and not may_send(at, self._context.run.deadline_at)

    def _places(self, now: float) -> int:
        """How many more creates may be on the wire now."""
        free = min(
            self._context.settings.creates_at_once - self._flow.sending,
            self._context.settings.max_in_flight - self._flow.in_flight,
        )
        return max(0, min(free, self._context.circuit.places(now, self._flow.sending)))

    def _wake_at(self, now: float, ask_again_at: float | None) -> float | None:
        moments = [moment for moment in (ask_again_at, self._delayed_at) if moment is not None]
        if self._context.circuit.is_open:
            moments.append(self._context.circuit.next_probe_at)
        return max(now, min(moments)) if moments else None

    def _tell(self, held_by: str | None, until: float | None) -> None:
        if self._context.circuit.is_open:
            held_by, until = "outage", self._context.circuit.next_probe_at
        self._context.progress.waiting_for = held_by
        self._context.progress.waiting_until = until

    # ── making ready ──────────────────────────────────────────────────────────────────────────────────────

    async def _refill(self) -> None:
        now = self._clock.now()
        if self._delayed_at is not None and self._delayed_at <= now:
            await self._take_delayed(now)
        if self._ready < READY // 2:
            # Read before looking: rows planned after this point wake the sender again.
            planned = self._flow.planned
            fresh = await self._reader.fresh(self._context.run.id, after_id=self._after_id, limit=READY)
            for request in fresh:
                self._after_id = request.id
                await self._make_ready(request, deque.append)
            self._flow.queue_empty = planned and not fresh and not self._ready and self._delayed_at is None
            if self._flow.queue_empty:
                self._flow.changed.set()

    async def _take_delayed(self, now: float) -> None:
        delayed = await self._reader.delayed(self._context.run.id, limit=READY)
        self._delayed_at = None
        for request in reversed(delayed):
            if request.id in self._in_hand:
                continue
            if request.not_before > now:
                self._delayed_at = request.not_before
            else:
                await self._make_ready(request, deque.appendleft)

    async def _make_ready(self, request: PendingRequest, put: Callable[[deque[Prepared], Prepared], None]) -> None:
        prepared = self._preparation.prepare(request, self._clock.now())
        if isinstance(prepared, Unsendable):
            await steps.refuse(self._context, request, prepared)
            return
        self._in_hand.add(request.id)
        put(self._queues.setdefault(prepared.model, deque()), prepared)

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, prepared: Prepared) -> None:
        after: After | None = None
        try:
            after = await steps.submit(self._context, prepared)
        finally:
            self._flow.sending -= 1
            if not isinstance(after, Returned):
                self._in_hand.discard(prepared.request.id)
        match after:
            case Waiting():
                self._follow(after)
            case Queued(not_before):
                self.put_off(not_before)
            case Returned(returned):
                self._queues[returned.model].appendleft(returned)
            case Held():
                self._flow.held += 1
            case Stopped():
                self._flow.stop(after)
        self._flow.sender.set()
        self._flow.changed.set()

    def put_off(self, not_before: float) -> None:
        """A request went back to the store's queue and is due at that moment."""
        self._delayed_at = not_before if self._delayed_at is None else min(self._delayed_at, not_before)
        self._flow.queue_empty = False
        self._flow.sender.set()
