"""How long batches take, learned for each model, and when an open batch is looked at next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

__all__ = ["BatchDurations", "next_poll_at"]

_REMEMBERED = 50
# An open batch is looked at after a tenth of its age, at least and at most so often.
_SHARE_OF_AGE = 0.1
_SHORTEST_S = 1.0
_LONGEST_S = 300.0
# Before this share of the shortest duration seen, none is expected to have ended.
_BEFORE_THE_SHORTEST = 0.8


class BatchDurations:
    """The seconds from the creation to the end of the latest batches of each model."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}

    def of(self, model: str) -> list[float]:
        """The durations seen, the latest one last."""
        return list(self._seconds.get(model, ()))

    def ended(self, model: str, seconds: float) -> None:
        """A batch has ended by itself."""
        self._seconds.setdefault(model, deque(maxlen=_REMEMBERED)).append(max(0.0, seconds))

    def dump(self) -> dict[str, list[float]]:
        """What was learned, for the next run."""
        return {model: [round(each, 1) for each in seconds] for model, seconds in self._seconds.items()}

    def load(self, learned: Mapping[str, Any]) -> None:
        """Take over what an earlier run learned."""
        for model, seconds in learned.items():
            if isinstance(seconds, list):
                for each in seconds:
                    if isinstance(each, int | float) and not isinstance(each, bool):
                        self.ended(model, float(each))


def next_poll_at(now: float, submitted_at: float, durations: list[float]) -> float:
    """When an open batch is looked at next."""
    age = max(0.0, now - submitted_at)
    at = now + min(max(age * _SHARE_OF_AGE, _SHORTEST_S), _LONGEST_S)
    if not durations:
        return at
    expected_at = submitted_at + _BEFORE_THE_SHORTEST * min(durations)
    # However long the shortest one took, this one may be the first to end, or to fail, early.
    return min(max(at, expected_at), now + _LONGEST_S)
