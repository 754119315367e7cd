"""One heap of due times for all open responses: no task waits for any single one of them."""

from __future__ import annotations

import heapq
from dataclasses import replace

from orchestrator.engine.items import OpenResponse, Waiting

__all__ = ["PollQueue"]


class PollQueue:
    """Open responses by the time at which each is polled next."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiting]] = []
        self._order = 0
        # When a poll was asked for at once, by attempt, while another poll of the response was on the wire.
        self._asked_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float | None:
        """When the first response is due."""
        return self._heap[0][0] if self._heap else None

    def push(self, waiting: Waiting) -> bool:
        """Add a response; True if it is now the first one due, so that the poller must wake."""
        if self._asked_at and (at := self._asked_at.pop(waiting.open.attempt_id, None)) is not None:
            waiting = Waiting(waiting.open, at, forced=True)
        self._order += 1
        heapq.heappush(self._heap, (waiting.poll_at, self._order, waiting))
        return self._heap[0][1] == self._order

    def pop(self) -> Waiting:
        """Take the response that is due first."""
        return heapq.heappop(self._heap)[2]

    def poll_all_now(self, now: float) -> None:
        """Make every response due (a cancel concerns them all)."""
        self._heap = [(now, order, replace(waiting, forced=True)) for _, order, waiting in self._heap]
        heapq.heapify(self._heap)

    def poll_now(self, open_: OpenResponse, now: float) -> None:
        """Make one response due; if a poll of it is on the wire, make it due again after that."""
        for place, (_, order, waiting) in enumerate(self._heap):
            if waiting.open is open_:
                self._heap[place] = (now, order, replace(waiting, poll_at=now, forced=True))
                heapq.heapify(self._heap)
                return
        self._asked_at[open_.attempt_id] = now

    def forget(self, open_: OpenResponse) -> None:
        """The response is settled: drop what was asked for it meanwhile."""
        self._asked_at.pop(open_.attempt_id, None)
