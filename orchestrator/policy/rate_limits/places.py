"""How many responses may be open at a time, at a server that refuses more than it has places for."""

from __future__ import annotations

__all__ = ["OpenPlaces"]

# A lowered number grows by one so often, because other clients may have left: that costs one refusal at most.
_GROWS_EVERY_S = 10.0
# If other clients have taken all places, a place is asked for so often.
_ASKS_EVERY_S = 5.0


class OpenPlaces:
    """The places for open responses: the config's number, lowered by each refusal. Nothing is kept for later runs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = most
        self._changed_at = 0.0
        # Until then, nothing is sent, because all places are taken by others.
        self.closed_until = 0.0

    def count(self, now: float) -> int:
        """Returns how many responses may be open now."""
        if now < self.closed_until:
            return 0
        if self._count < self._most and now - self._changed_at >= _GROWS_EVERY_S:
            self._count += 1
            self._changed_at = now
        return self._count

    def full(self, now: float, in_flight: int) -> None:
        """Record a refusal with so many requests in flight, it among them: it gives up one place."""
        self._changed_at = now
        self._count = max(1, min(self._count, in_flight - 1))
        if in_flight <= 1:
            self.closed_until = now + _ASKS_EVERY_S
