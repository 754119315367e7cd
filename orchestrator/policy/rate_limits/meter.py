"""One resource of a rate limit (requests or tokens): how much may be used when."""

from __future__ import annotations

import math

from orchestrator.policy.rate_limits.sliding_window import Window

__all__ = ["Meter"]

# The share of the limit that, spread evenly over the 61 s of a window, just fits.
_EVEN = 60.0 / 61.0
_RESET_OF_A_MINUTE_S = 75.0
# A bucket below this share of its capacity counts as drained: calls use all that flows in.
_DRAINED = 0.5


class Meter:
    """An allowance per minute, spent evenly and never exceeded. Four rules hold at once:

    * *Window*: no 60 s may use more than the limit.
    * *Bucket*: it fills at the present rate and holds ``burst_s`` seconds' worth (at least one call), because some
      providers check every second or ten. An amount larger than the bucket waits for a full one and leaves a debt.
    * *Credit*: what the provider reports as remaining, minus what was sent since, plus what it restores each second.
      It accounts for other processes on the same account.
    * *Limit*: the lower of ``configured``, which is the user's, and ``reported``, which is the provider's.
    """

    __slots__ = (
        "_at",
        "_burst_s",
        "_configured",
        "_credit",
        "_level",
        "_of_a_minute",
        "_reported_at",
        "even",
        "limit",
        "reported",
        "window",
    )

    def __init__(self, configured: int | None, *, burst_s: float, now: float) -> None:
        self._configured = configured
        self._apply_limit(None)
        self.window = Window()
        self._burst_s = burst_s
        self._level = 1.0
        self._credit = math.inf
        self._at = now
        self._reported_at = -math.inf
        self._of_a_minute = True

    def advance(self, now: float, rate: float) -> float:
        """Advance to ``now`` at a rate per minute; returns for how many seconds calls used the whole rate."""
        elapsed = now - self._at
        if elapsed <= 0.0:
            return 0.0
        self._at = now
        if self.reported is not None:
            self._credit = min(float(self.reported), self._credit + elapsed * self.reported / 60.0)
        if rate == math.inf:
            self._level = math.inf
            return 0.0
        capacity, level = self._capacity(rate), self._level
        self._level = min(capacity, level + elapsed * rate / 60.0)
        if level >= _DRAINED * capacity:
            return 0.0
        return min(elapsed, (capacity - level) * 60.0 / rate)

    def ready_at(self, now: float, amount: int, rate: float) -> float:
        """Returns the earliest time at which the amount may be used: ``now`` for at once, ``inf`` for never."""
        limit = self.limit
        if not amount or (limit is None and rate == math.inf):
            return now
        if limit is not None and amount > limit:
            return math.inf
        at = now
        if amount > self._level:
            missing = min(float(amount), self._capacity(rate)) - self._level
            # The clock resolves a quarter of a microsecond: a smaller shortage counts as none.
            if missing * 60.0 > rate * 1e-6:
                at = now + missing * 60.0 / rate
        if self.reported is not None and (amount - self._credit) * 60.0 > self.reported * 1e-6:
            at = max(at, now + (amount - self._credit) * 60.0 / self.reported)
        return at if limit is None else max(at, self.window.room_at(now, limit - amount))

    def spend(self, now: float, amount: int) -> None:
        """Use an amount that ``ready_at`` allows now."""
        self._level -= amount
        self._credit -= amount
        self.window.add(now, amount)

    def give_back(self, spent_at: float, amount: int) -> None:
        """Undo a ``spend`` of a request that was not sent."""
        self._level += amount
        self._credit += amount
        self.window.take_back(spent_at, amount)

    def rest_until(self, resume_at: float) -> None:
        """Stop filling the bucket until then, and resume with a single call: a pause must not end in a burst."""
        self._level = 1.0
        self._at = max(self._at, resume_at)

    def observe_headers(
        self, sent_at: float, limit: int | None, remaining: int | None, reset_s: float | None = None
    ) -> None:
        """Use the limit headers of the reply to a call sent at ``sent_at``.

        Replies overtake each other, so the reply to an earlier call does not replace a newer limit. Headers only
        lower the credit; it rises by itself as the provider restores the allowance.
        """
        if reset_s is not None and reset_s > _RESET_OF_A_MINUTE_S:
            # An allowance per minute is restored within a minute: this one is per day and says nothing about minutes.
            self._of_a_minute, self._credit = False, math.inf
            self._apply_limit(None)
        if not self._of_a_minute:
            return
        if limit is not None and limit > 0 and sent_at >= self._reported_at:
            if limit != self.reported:
                self._apply_limit(limit)
            self._reported_at = sent_at
            self._credit = min(self._credit, float(limit))
        if remaining is not None and self.reported is not None:
            self._credit = min(self._credit, remaining - self.window.since(sent_at))

    @property
    def has_room(self) -> bool:
        """Whether the provider has reported a limit of which more than a tenth is left."""
        return self.reported is not None and self._credit > 0.1 * self.reported

    def is_drained(self, rate: float) -> bool:
        """Whether the rate limits sending, and not a lack of work."""
        return self._level < _DRAINED * self._capacity(rate)

    def _apply_limit(self, reported: int | None) -> None:
        self.reported = reported
        known = [limit for limit in (self._configured, reported) if limit is not None]
        # The allowance per minute as far as it is known, and the highest even rate within it, per minute.
        self.limit = min(known, default=None)
        self.even = math.inf if self.limit is None else self.limit * _EVEN

    def _capacity(self, rate: float) -> float:
        return max(1.0, rate * self._burst_s / 60.0)
