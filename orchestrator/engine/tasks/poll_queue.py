"""One heap of due times for all open responses: no task waits for any single one of them."""

from __future__ import annotations

import heapq
from dataclasses import replace

from orchestrator.engine.items import OpenResponse, Waiting

__all__ = ["PollQueue"]


class PollQueue:
    """Open responses by the moment at which each is to be looked at."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiting]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def push(self, waiting: Waiting) -> bool:
        """Add a response; True where it is now the first one due, so that a sleeper must wake."""
        self._order += 1
        heapq.heappush(self._heap, (waiting.look_at, self._order, waiting))
        return self._heap[0][1] == self._order

    def pop(self) -> Waiting:
        """The response due first."""
        return heapq.heappop(self._heap)[2]

    def pull_forward(self, now: float) -> None:
        """Make every response due at once (a cancel wants them all)."""
        self._heap = [(now, order, replace(waiting, forced=True)) for _, order, waiting in self._heap]
        heapq.heapify(self._heap)

    def pull_one_forward(self, open_: OpenResponse, now: float) -> bool:
        """Make one response due at once; False where it is not here, because it is being looked at."""
        for place, (_, order, waiting) in enumerate(self._heap):
            if waiting.open is open_:
                self._heap[place] = (now, order, replace(waiting, look_at=now, forced=True))
                heapq.heapify(self._heap)
                return True
        return False
