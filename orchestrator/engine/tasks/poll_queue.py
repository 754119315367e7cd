"""One heap of due times for all open responses: no task waits for any single one of them."""

from __future__ import annotations

import heapq
from dataclasses import replace

from orchestrator.engine.items import OpenResponse, Waiting

__all__ = ["PollQueue", "PollQueues"]


class PollQueue:
    """Open responses by the time at which each is polled next."""

    def __init__(self) -> None:
        # An entry counts only if its number is the latest one of its response.
        self._heap: list[tuple[float, int, Waiting]] = []
        self._numbers: dict[int, int] = {}
        self._pushed = 0
        # When a poll was asked for at once, by attempt, while another poll of the response was on the wire.
        self._asked_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def next_due(self) -> float | None:
        """When the first response is due."""
        heap, numbers = self._heap, self._numbers
        while heap and numbers.get(heap[0][2].open.attempt_id) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def push(self, waiting: Waiting) -> bool:
        """Add a response; True if it is now the first one due, so that the poller must wake."""
        if self._asked_at and (at := self._asked_at.pop(waiting.open.attempt_id, None)) is not None:
            waiting = Waiting(waiting.open, at, forced=True)
        return self._push(waiting)

    def pop(self) -> Waiting:
        """Take the response that is due first; ``next_due`` says whether there is one."""
        waiting = heapq.heappop(self._heap)[2]
        del self._numbers[waiting.open.attempt_id]
        return waiting

    def poll_all_now(self, now: float) -> None:
        """Make every response due (a cancel concerns them all)."""
        latest = [entry for entry in self._heap if self._numbers.get(entry[2].open.attempt_id) == entry[1]]
        self._heap = [(now, number, replace(waiting, forced=True)) for _, number, waiting in latest]
        heapq.heapify(self._heap)

    def poll_now(self, open_: OpenResponse, now: float) -> None:
        """Make one response due; if a poll of it is on the wire, make it due again after that."""
        if open_.attempt_id in self._numbers:
            self._push(Waiting(open_, now, forced=True))
        else:
            self._asked_at[open_.attempt_id] = now

    def forget(self, open_: OpenResponse) -> None:
        """The response is settled: drop what was asked for it meanwhile."""
        self._asked_at.pop(open_.attempt_id, None)

    def _push(self, waiting: Waiting) -> bool:
        self._pushed += 1
        self._numbers[waiting.open.attempt_id] = self._pushed
        heapq.heappush(self._heap, (waiting.poll_at, self._pushed, waiting))
        return self._heap[0][1] == self._pushed


class PollQueues:
    """A queue for each endpoint: one that cannot be polled now holds up none of the others."""

    def __init__(self, endpoints: int = 1) -> None:
        self._queues = [PollQueue() for _ in range(endpoints)]
        # Asked for several times a row.
        self._only = self._queues[0] if endpoints == 1 else None

    def __len__(self) -> int:
        return sum(map(len, self._queues)) if self._only is None else len(self._only)

    @property
    def next_due(self) -> float | None:
        """When the first response is due."""
        return min((queue.next_due for queue in self._queues if queue.next_due is not None), default=None)

    def of(self, endpoint: int) -> PollQueue:
        """The queue of an endpoint, by its place."""
        return self._queues[endpoint]

    def push(self, waiting: Waiting) -> bool:
        """Add a response; True if it is now the first one due at its endpoint, so that the poller must wake."""
        return self._queues[waiting.open.endpoint].push(waiting)

    def poll_all_now(self, now: float) -> None:
        """Make every response due (a cancel concerns them all)."""
        for queue in self._queues:
            queue.poll_all_now(now)

    def poll_now(self, open_: OpenResponse, now: float) -> None:
        """Make one response due; if a poll of it is on the wire, make it due again after that."""
        self._queues[open_.endpoint].poll_now(open_, now)

    def forget(self, open_: OpenResponse) -> None:
        """The response is settled: drop what was asked for it meanwhile."""
        self._queues[open_.endpoint].forget(open_)
