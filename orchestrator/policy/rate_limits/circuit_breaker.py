"""When everything fails for the provider's reasons: stop sending, ask now and then, and come back gently.

A few failures among successes are ordinary and are retried one by one. But where nothing succeeds any more (nobody
listens, one 5xx after another), each further try would spend an attempt for nothing, and thousands of clients that
insist keep a provider down. So after a streak of failures the circuit *opens*: one probe at a time, at growing
intervals. The first success closes it, and the flow swells by doubling rather than all at once.

Only calls sent after the last change count: the late failures of those sent before belong to the same streak.

A request can also be at fault by itself, and fail whenever it is sent. So its second failure and those after it are
no news of the provider, and do not open the circuit. Where several such are all that is left, they look like an
outage for ever; so an outage is an excuse for two hours and no longer.
"""

from __future__ import annotations

from random import Random

__all__ = ["CircuitBreaker"]

# It opens after so many failures without a success between them; or after fewer, where they go on for a while.
_STREAK = 20
_SHORT_STREAK = 4
_LASTING_S = 5.0
# The wait for the first probe, doubled each time up to the longest.
_FIRST_PROBE_S = 1.0
_LONGEST_PROBE_S = 30.0
_JITTER = 0.2
_LONGEST_EXCUSE_S = 7200.0
# After it has closed: so many at once, doubled with each success until there are so many that it no longer matters.
_FIRST_PLACES = 2
_ENOUGH_PLACES = 256


class CircuitBreaker:
    """Whether one kind of call (creates, or looks) may be made now; deterministic for a given ``rng``."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._streak = 0
        self._streak_began = 0.0
        self._opened_at: float | None = None
        self._wait_s = _FIRST_PROBE_S
        self._next_probe_at = 0.0
        self._places = _ENOUGH_PLACES
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether nothing but a probe is let through."""
        return self._opened_at is not None

    @property
    def next_probe_at(self) -> float:
        """When the next probe may go, while it is open."""
        return self._next_probe_at

    def excuses(self, now: float) -> bool:
        """Whether a failure now is the provider's, so that no request is to suffer for it."""
        return self._opened_at is not None and now - self._opened_at < _LONGEST_EXCUSE_S

    def places(self, now: float, on_the_wire: int) -> int:
        """How many more calls may start, beside those on the wire."""
        if self._opened_at is None:
            return max(0, self._places - on_the_wire) if self._places < _ENOUGH_PLACES else _ENOUGH_PLACES
        return 1 if now >= self._next_probe_at else 0

    def probing(self, now: float) -> None:
        """A probe leaves: until its answer, or the longest interval later, no second one goes."""
        if self._opened_at is not None:
            self._next_probe_at = now + self._jittered(_LONGEST_PROBE_S)

    def failed(self, now: float, sent_at: float, reason: str, *, again: bool = False) -> None:
        """A call failed in a way that is the provider's; ``reason`` is a code, for people.

        ``again`` says that the same request failed before.
        """
        self.reason = reason
        if self._opened_at is not None:
            if sent_at > self._opened_at:
                self._wait_s = min(self._wait_s * 2, _LONGEST_PROBE_S)
                self._next_probe_at = now + self._jittered(self._wait_s)
            return
        if not again:
            if self._streak == 0:
                self._streak_began = sent_at
            self._streak += 1
        lasting = now - self._streak_began >= _LASTING_S
        if self._streak >= _STREAK or (self._streak >= _SHORT_STREAK and lasting):
            self._opened_at = now
            self._wait_s = _FIRST_PROBE_S
            self._next_probe_at = now + self._jittered(self._wait_s)

    def succeeded(self, sent_at: float) -> None:
        """A call that left at ``sent_at`` was answered well."""
        self._streak = 0
        if self._opened_at is not None:
            if sent_at < self._opened_at:
                # It was on the wire when the lights went out, and says nothing of now.
                return
            self._opened_at = None
            self._places = _FIRST_PLACES
        elif self._places < _ENOUGH_PLACES:
            self._places *= 2

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)
