"""Stops sending while every call fails because of the provider, probes it, and resumes gradually.

A few failures among successes are ordinary, and each request is retried by itself. But if no call succeeds any more
(connection refused, one 5xx after another), each further call would waste an attempt, and thousands of insistent
clients keep a provider down. So after a streak of failures the circuit *opens*: it lets one probe through at a time,
at growing intervals. The first success closes it, and the number of calls at once then doubles with each success.

Only calls sent after the last change count: late failures of earlier calls belong to the same streak.

A request can also be at fault itself and fail whenever it is sent. So its second and later failures say nothing about
the provider, and do not open the circuit. If only such requests are left, they look like an outage forever; so an
outage excuses failures for at most two hours.
"""

from __future__ import annotations

from random import Random

__all__ = ["CircuitBreaker"]

# It opens after _STREAK failures in a row, or after _SHORT_STREAK if they last for _LASTING_S.
_STREAK = 20
_SHORT_STREAK = 4
_LASTING_S = 5.0
# The wait before the first probe; it doubles each time up to the longest.
_FIRST_PROBE_S = 1.0
_LONGEST_PROBE_S = 30.0
_JITTER = 0.2
_LONGEST_EXCUSE_S = 7200.0
# Calls at once after it has closed; doubled with each success until the number no longer limits anything.
_FIRST_PLACES = 2
_ENOUGH_PLACES = 256


class CircuitBreaker:
    """Decides whether one kind of call (creates or polls) may be made now; deterministic for a given ``rng``."""

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
        """Whether only probes are let through."""
        return self._opened_at is not None

    @property
    def next_probe_at(self) -> float:
        """When the next probe may be sent, while it is open."""
        return self._next_probe_at

    def excuses(self, now: float) -> bool:
        """Whether a failure now is the provider's fault, so that it must not spend an attempt."""
        return self._opened_at is not None and now - self._opened_at < _LONGEST_EXCUSE_S

    def places(self, now: float, in_flight: int) -> int:
        """Returns how many more calls may start, beside those in flight."""
        if self._opened_at is None:
            return max(0, self._places - in_flight) if self._places < _ENOUGH_PLACES else _ENOUGH_PLACES
        return 1 if now >= self._next_probe_at else 0

    def probing(self, now: float) -> None:
        """Record that a probe is sent: no second one follows until its reply or the longest interval."""
        if self._opened_at is not None:
            self._next_probe_at = now + self._jittered(_LONGEST_PROBE_S)

    def failed(self, now: float, sent_at: float, reason: str, *, again: bool = False) -> None:
        """Record that a call failed because of the provider; ``reason`` is a code, for people.

        ``again`` says that the same request has failed before.
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
        """Record that a call sent at ``sent_at`` succeeded."""
        self._streak = 0
        if self._opened_at is not None:
            if sent_at < self._opened_at:
                # It was in flight when the outage began, and says nothing about now.
                return
            self._opened_at = None
            self._places = _FIRST_PLACES
        elif self._places < _ENOUGH_PLACES:
            self._places *= 2

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)
