"""One resource of a rate limit (requests, or tokens): what may be used when, by four rules at once."""

from __future__ import annotations

import math

from orchestrator.policy.rate_limits.sliding_window import Window

__all__ = ["Meter"]

# Evenly spread, so much a minute is what fits into the 61 s that a window remembers.
_EVEN = 60.0 / 61.0
_RESET_OF_A_MINUTE_S = 75.0
# A bucket that is less full than this share is drawn from as fast as it fills.
_DRAINED = 0.5


class Meter:
    """An allowance per minute, spent evenly and never exceeded.

    * *The window*: in no 60 s more than the limit, whatever else happens.
    * *The flow*: a bucket that fills at the present rate and holds ``burst_s`` seconds' worth (at least one), so that
      providers that check every second or ten are not met with a minute's worth at once. An amount that is larger
      than the bucket waits for a full one and leaves a debt.
    * *The credit*: what the provider said is left, less what was sent since, plus what comes back each second. It is
      what tells us of other processes that use the same allowance.
    * *The limit* itself: ``configured`` is the user's word and an upper bound; ``told`` is the provider's.
    """

    __slots__ = (
        "_at",
        "_burst_s",
        "_configured",
        "_credit",
        "_level",
        "_of_a_minute",
        "_told_at",
        "even",
        "limit",
        "told",
        "window",
    )

    def __init__(self, configured: int | None, *, burst_s: float, now: float) -> None:
        self._configured = configured
        self._apply_headers(None)
        self.window = Window()
        self._burst_s = burst_s
        self._level = 1.0
        self._credit = math.inf
        self._at = now
        self._told_at = -math.inf
        self._of_a_minute = True

    def advance(self, now: float, rate: float) -> float:
        """Let time pass at a rate per minute; returns for how many seconds of it the rate was really used up."""
        elapsed = now - self._at
        if elapsed <= 0.0:
            return 0.0
        self._at = now
        if self.told is not None:
            self._credit = min(float(self.told), self._credit + elapsed * self.told / 60.0)
        if rate == math.inf:
            self._level = math.inf
            return 0.0
        capacity, level = self._capacity(rate), self._level
        self._level = min(capacity, level + elapsed * rate / 60.0)
        if level >= _DRAINED * capacity:
            return 0.0
        return min(elapsed, (capacity - level) * 60.0 / rate)

    def ready_at(self, now: float, amount: int, rate: float) -> float:
        """The earliest moment at which the amount may be used; ``now`` means at once, ``inf`` never."""
        limit = self.limit
        if not amount or (limit is None and rate == math.inf):
            return now
        if limit is not None and amount > limit:
            return math.inf
        at = now
        if amount > self._level:
            flow_short = min(float(amount), self._capacity(rate)) - self._level
            # The clock has a grain of a quarter of a microsecond: what is short by less than that is there.
            if flow_short * 60.0 > rate * 1e-6:
                at = now + flow_short * 60.0 / rate
        if self.told is not None and (amount - self._credit) * 60.0 > self.told * 1e-6:
            at = max(at, now + (amount - self._credit) * 60.0 / self.told)
        return at if limit is None else max(at, self.window.room_at(now, limit - amount))

    def spend(self, now: float, amount: int) -> None:
        """Use an amount that ``ready_at`` allows now."""
        self._level -= amount
        self._credit -= amount
        self.window.add(now, amount)

    def give_back(self, spent_at: float, amount: int) -> None:
        """Undo a ``spend``: it was not sent after all."""
        self._level += amount
        self._credit += amount
        self.window.take_back(spent_at, amount)

    def rest_until(self, moment: float) -> None:
        """Let the flow stand still until then, and begin with a single call: a pause must not end in a burst."""
        self._level = 1.0
        self._at = max(self._at, moment)

    def hear(self, sent_at: float, limit: int | None, remaining: int | None, reset_s: float | None = None) -> None:
        """Take in what the provider said with the reply to a call that left at ``sent_at``.

        Replies overtake each other: one to an earlier call does not change a limit that a later one told.
        What is left is only ever corrected down; that it comes back is known without being told.
        """
        if reset_s is not None and reset_s > _RESET_OF_A_MINUTE_S:
            # A minute's allowance is whole again in a minute: this one is a day's, and says nothing about minutes.
            self._of_a_minute, self._credit = False, math.inf
            self._apply_headers(None)
        if not self._of_a_minute:
            return
        if limit is not None and limit > 0 and sent_at >= self._told_at:
            if limit != self.told:
                self._apply_headers(limit)
            self._told_at = sent_at
            self._credit = min(self._credit, float(limit))
        if remaining is not None and self.told is not None:
            self._credit = min(self._credit, remaining - self.window.since(sent_at))

    @property
    def has_room(self) -> bool:
        """Whether the provider has told a limit, and by its word a good part of it is left."""
        return self.told is not None and self._credit > 0.1 * self.told

    def is_drained(self, rate: float) -> bool:
        """Whether the flow, and not a lack of work, is what holds sending back."""
        return self._level < _DRAINED * self._capacity(rate)

    def _apply_headers(self, told: int | None) -> None:
        self.told = told
        known = [limit for limit in (self._configured, told) if limit is not None]
        # The allowance per minute as far as it is known, and the highest even rate that it allows, per minute.
        self.limit = min(known, default=None)
        self.even = math.inf if self.limit is None else self.limit * _EVEN

    def _capacity(self, rate: float) -> float:
        return max(1.0, rate * self._burst_s / 60.0)
