"""How many input tokens may be enqueued in batches of a model: as configured, and less where the provider refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["EnqueuedTokens"]

# After a refusal this share of what was tried is allowed, and after a batch that was taken a little more again.
_LOWERED = 0.5
_RAISED = 1.05
# However often the provider refuses, one batch of this size is still tried.
_LEAST = 10_000
# The waits between tries while none of our batches is open: others use the limit up.
_FIRST_WAIT_S = 60.0
_LONGEST_WAIT_S = 1800.0


class EnqueuedTokens:
    """The limit of each model, what is enqueued under it, and when it may be tried again after a refusal."""

    def __init__(self, limit: int) -> None:
        self._most = limit
        self._limits: dict[str, int] = {}
        self._enqueued: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self._wait_until: dict[str, float] = {}

    def limit(self, model: str) -> int:
        """The tokens that batches of a model may have enqueued together."""
        return self._limits.get(model, self._most)

    def enqueued(self, model: str) -> int:
        """The tokens that they have enqueued now."""
        return self._enqueued.get(model, 0)

    def has_room(self, model: str, tokens: int, now: float) -> bool:
        """Whether a batch may be sent now; one alone always may, once the wait after a refusal is over."""
        if now < self._wait_until.get(model, 0.0):
            return False
        enqueued = self.enqueued(model)
        return not enqueued or enqueued + tokens <= self.limit(model)

    def waits_until(self, model: str) -> float:
        """Until when nothing of a model is sent after a refusal; a time in the past if nothing waits."""
        return self._wait_until.get(model, 0.0)

    def add(self, model: str, tokens: int) -> None:
        """A batch is about to be sent."""
        self._enqueued[model] = self.enqueued(model) + tokens

    def ended(self, model: str, tokens: int, *, taken: bool) -> None:
        """A batch has ended, so its tokens are free; ``taken`` says that the provider had accepted it."""
        self._enqueued[model] = max(0, self.enqueued(model) - tokens)
        self._wait_until.pop(model, None)
        if taken:
            self._refusals.pop(model, None)
            if model in self._limits:
                self._limits[model] = min(self._most, round(self._limits[model] * _RAISED))

    def refused(self, model: str, tokens: int, now: float) -> float:
        """The provider refused a batch because too much is enqueued; returns when the next one may be tried."""
        tried = self.enqueued(model)
        self.ended(model, tokens, taken=False)
        self._limits[model] = max(_LEAST, min(self.limit(model), round(tried * _LOWERED)))
        count = self._refusals[model] = self._refusals.get(model, 0) + 1
        wait_s = min(_FIRST_WAIT_S * 2 ** (count - 1), _LONGEST_WAIT_S)
        # While one of ours is open, its end frees the tokens; until then a try would only be refused again.
        self._wait_until[model] = now + wait_s
        return self._wait_until[model]

    def dump(self) -> dict[str, int]:
        """What was learned, for the next run."""
        return dict(self._limits)

    def load(self, learned: Mapping[str, Any]) -> None:
        """Take over what an earlier run learned."""
        for model, limit in learned.items():
            if isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < self._most:
                self._limits[model] = limit
