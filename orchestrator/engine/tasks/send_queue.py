"""Requests in memory that are ready to be sent; all others are in the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.run_status import RunStatus

__all__ = ["QueueName", "SendQueue"]


class QueueName(NamedTuple):
    """What the requests of a queue have in common; ``pin`` is the place of the endpoint that they must go to."""

    stage: str
    model: str
    lane: Lane
    pin: int | None = None


class SendQueue:
    """Requests made ready, a queue for each ``QueueName``, and when the next one that was put off is due.

    Every request of a queue is *in hand*: pending in the store, but not to be read from there a second time.
    """

    def __init__(self, status: RunStatus, stages: Sequence[str] = ()) -> None:
        """``stages`` are in the order in which their requests are sent."""
        self._status = status
        self._places = {name: place for place, name in enumerate(stages)}
        self.ready: dict[QueueName, deque[Prepared]] = {}
        self.in_hand: set[int] = set()
        # The request that is sent for each fingerprint in hand; duplicates wait for its answer.
        self.asked: dict[bytes, int] = {}
        # Stages whose pending requests must be made ready again, from the first one on.
        self.to_reread: set[str] = set()
        # Lanes that were left, by stage; where only one model has left it, with the model.
        self._left: set[tuple[str, Lane, str | None]] = set()
        # How many requests have a place in a batch that is not claimed yet.
        self.in_forming_batches = 0
        # Whether every row was read once, so that what is pending in the store was put off.
        self.all_read = False
        # When the next request that was put off is due; 0 makes the sender ask the store first.
        self.delayed_at: float | None = 0.0

    def __len__(self) -> int:
        return sum(map(len, self.ready.values()))

    def of_stage(self, stage: str) -> int:
        """How many requests of a stage are ready."""
        return sum(len(queue) for name, queue in self.ready.items() if name.stage == stage)

    @property
    def drained(self) -> bool:
        """Nothing is left to be sent, unless something that is in flight comes back."""
        return self.delayed_at is None and self.all_read and not len(self)

    def for_batches(self) -> list[tuple[str, str]]:
        """The stages and models of which requests wait for a place in a batch."""
        return [(name.stage, name.model) for name, queue in self.ready.items() if queue and name.lane is Lane.BATCH]

    def add(self, prepared: Prepared, *, first: bool = False) -> None:
        """Queue a request for its model, behind the others or before them; not for a lane that was left meanwhile."""
        if self._has_left(prepared):
            self.forget(prepared)
            self._reread(prepared.request.stage)
            return
        self.in_hand.add(prepared.request.id)
        name = QueueName(prepared.request.stage, prepared.model, prepared.lane, prepared.pin)
        queue = self.ready.get(name)
        if queue is None:
            queue = self.ready[name] = deque()
            self.ready = dict(sorted(self.ready.items(), key=lambda each: self._places.get(each[0][0], 0)))
        if first:
            queue.appendleft(prepared)
        else:
            queue.append(prepared)
        if prepared.lane is Lane.BATCH:
            self._status.batch_signal.set()

    def take_back(self, prepared: Prepared) -> None:
        """Put a request that could not be sent now back at the head of its queue."""
        if prepared.fingerprint is not None:
            self.asked[prepared.fingerprint] = prepared.request.id
        made = prepared.new_conversation
        if made is not None and made.endpoint is not None:
            prepared = replace(prepared, pin=made.endpoint)
        self.add(prepared, first=True)

    def forget(self, prepared: Prepared) -> None:
        """The request is claimed or settled in the store: whatever concerns it is found there from now on."""
        self.in_hand.discard(prepared.request.id)
        if prepared.fingerprint is not None:
            self.asked.pop(prepared.fingerprint, None)

    def change_lane(self, stage: str, old: Lane, new: Lane) -> None:
        """Requests that were made ready for a lane take another one: they are made ready again."""
        self._left.discard((stage, new, None))
        self._leave(stage, old, None)

    def leave_lane(self, stage: str, lane: Lane, model: str) -> None:
        """A model has refused a lane: its requests that were made ready for it are made ready again."""
        self._leave(stage, lane, model)

    def _leave(self, stage: str, lane: Lane, model: str | None) -> None:
        self._left.add((stage, lane, model))
        for name, queue in self.ready.items():
            if name.stage == stage and name.lane is lane and model in (None, name.model):
                while queue:
                    self.forget(queue.popleft())
        self._reread(stage)

    def read_again(self, requests: Iterable[Prepared]) -> None:
        """Requests in hand are not sent as they are: they are read from the store once more."""
        for prepared in requests:
            self.forget(prepared)
            self._reread(prepared.request.stage)

    def _has_left(self, prepared: Prepared) -> bool:
        if not self._left:
            return False
        stage, lane = prepared.request.stage, prepared.lane
        return not self._left.isdisjoint(((stage, lane, None), (stage, lane, prepared.model)))

    def _reread(self, stage: str) -> None:
        self.to_reread.add(stage)
        # The sender asks the store first, for those that were put off, too.
        self.put_off(0.0)

    def put_off(self, not_before: float) -> None:
        """A request is pending in the store again and due at that time."""
        self.delayed_at = not_before if self.delayed_at is None else min(self.delayed_at, not_before)
        self._status.queue_empty = False
        self._status.send_signal.set()
