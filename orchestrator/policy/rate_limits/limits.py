"""The rate limiter: requests and tokens per minute taken together, learned from replies, never exceeded.

Tokens are reserved as the provider counts them when a request arrives: its input and the whole of
``max_output_tokens`` (responses API, "Rate limits"). Reserved tokens that were not generated are *not* given back,
because the provider does not restore them either.

The caller must keep a strict order and ask only for the head of its queue. Otherwise small requests take the tokens
that a large one waits for, again and again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import RateLimits
from orchestrator.policy.rate_limits.meter import Meter
from orchestrator.policy.rate_limits.pace import Pace

__all__ = ["LearnedLimits", "Limiter", "Pools", "learned_limits"]

# Where to start if no limit is known; if one is, at a quarter of it if that is more.
_START_PER_MINUTE = 6000.0
# The time before a refused call over which its real speed is measured.
_LATELY_S = 2.0
# The shortest wait that ``ready_at`` returns, so that callers do not spin.
_SOON_S = 0.001
# Replies within this time report nearly the same limits, and parsing headers is costly.
_OBSERVE_EVERY_S = 0.02
_VERSION = 1


class Limiter:
    """One pool of requests and tokens per minute; ``None`` is an unknown limit, which the limiter finds by itself.

    It has no I/O and no clock: callers pass ``now`` in seconds, and the time at which a call was sent, because a
    reply describes the past. ``burst_s`` is how many seconds' worth may be sent at once: 0.1 suits a provider that
    checks every second. Polls take no tokens (``tokens=0``) and have a limiter of their own.
    """

    def __init__(
        self, *, requests_per_minute: int | None, tokens_per_minute: int | None, now: float, burst_s: float = 1.0
    ) -> None:
        self._requests = Meter(requests_per_minute, burst_s=burst_s, now=now)
        self._tokens = Meter(tokens_per_minute, burst_s=burst_s, now=now)
        self._pace = Pace(_START_PER_MINUTE)
        self._observed_at = -math.inf
        self._start_by_limit()

    @property
    def requests_per_minute(self) -> int | None:
        """The limit on requests as far as it is known: the lower of the config's and the provider's."""
        return self._requests.limit

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit on tokens as far as it is known."""
        return self._tokens.limit

    @property
    def pace_per_minute(self) -> float:
        """The highest rate of requests per minute now; below the limit after refusals."""
        return min(self._pace.per_minute, self._requests.even)

    @property
    def paused_until(self) -> float:
        """Until then nothing is sent, because the provider refuses calls."""
        return self._pace.paused_until

    def take(self, now: float, tokens: int) -> bool:
        """Take one request and its tokens, both or neither; returns whether they were free."""
        self._advance(now)
        if self._ready_at(now, tokens) > now:
            return False
        self._requests.spend(now, 1)
        if tokens:
            self._tokens.spend(now, tokens)
        return True

    def ready_at(self, now: float, tokens: int) -> float:
        """Returns the earliest time to ask again; ``inf`` for a request that never fits."""
        self._advance(now)
        at = self._ready_at(now, tokens)
        return at if at <= now else max(at, now + _SOON_S)

    def at_limit(self, now: float, tokens: int) -> bool:
        """Whether a known limit is used up, or the provider refuses calls now; not if only the pace is slower."""
        self._advance(now)
        requests, of_tokens = self._requests, self._tokens
        if self._pace.paused_until > now:
            return True
        full_pace = requests.limit is not None and self.pace_per_minute >= requests.even
        if full_pace and requests.ready_at(now, 1, requests.even) > now:
            return True
        return of_tokens.limit is not None and of_tokens.ready_at(now, tokens, of_tokens.even) > now

    def never_fits(self, tokens: int) -> bool:
        """Whether a request needs more tokens than the known limit of a whole minute."""
        limit = self._tokens.limit
        return limit is not None and tokens > limit

    def refund(self, now: float, tokens: int, *, taken_at: float | None = None) -> None:
        """Give back what was taken at ``taken_at`` (default: now) for a request that was not sent.

        Do not call it for a refused request: providers count those too.
        """
        self._advance(now)
        taken_at = now if taken_at is None else taken_at
        self._requests.give_back(taken_at, 1)
        self._tokens.give_back(taken_at, tokens)

    def wants_headers(self, now: float) -> bool:
        """Whether to parse the limit headers of an accepted call; of many replies at a time, one is enough."""
        return now - self._observed_at >= _OBSERVE_EVERY_S

    def learn(self, now: float, sent_at: float, limits: RateLimits | None) -> None:
        """Record that a call sent at ``sent_at`` was accepted, and the limits that its reply reported."""
        self._advance(now)
        if limits is not None:
            self._observe(now, sent_at, limits)
        self._pace.accepted(now, sent_at)

    def rate_limited(
        self,
        now: float,
        sent_at: float,
        *,
        retry_after_s: float | None = None,
        limits: RateLimits | None = None,
        slow_down: bool = False,
    ) -> None:
        """Record that a call sent at ``sent_at`` was rate-limited (429); slows down or pauses if needed."""
        self._advance(now)
        if limits is not None:
            self._observe(now, sent_at, limits)
        window, pace = self._requests.window, self._pace
        speed = self.pace_per_minute
        if not self._requests.is_drained(speed):
            # Something else limits sending (connections, tokens, work): the speed of late was too fast.
            lately = window.since(sent_at - _LATELY_S) * 60.0 / (now - sent_at + _LATELY_S)
            speed = min(speed, max(lately, float(window.used(now))))
        pace.refused(
            now,
            sent_at,
            speed=speed,
            retry_after_s=retry_after_s,
            ramp=slow_down,
            room=self._requests.has_room and (self._tokens.reported is None or self._tokens.has_room),
        )
        if pace.paused_until > now:
            self._requests.rest_until(pace.paused_until)

    def snapshot(self) -> bytes:
        """Returns what was learned, for the next process that uses the same account."""
        return json.dumps(self.as_values(), separators=(",", ":")).encode()

    def restore(self, learned: bytes) -> None:
        """Use an earlier ``snapshot``; unreadable values are ignored."""
        try:
            self.restore_values(json.loads(learned))
        except ValueError:
            return

    def as_values(self) -> dict[str, float | None]:
        """Returns the snapshot as plain values, for JSON."""
        limits = {"requests": self._requests.reported, "tokens": self._tokens.reported}
        return {"v": _VERSION, **limits, "pace": self._pace.found}

    def restore_values(self, snapshot: object) -> None:
        """Restore from plain values; anything that ``as_values`` does not return is ignored."""
        if not isinstance(snapshot, dict) or snapshot.get("v") != _VERSION:
            return
        requests, tokens, pace = snapshot.get("requests"), snapshot.get("tokens"), snapshot.get("pace")
        # Valid only until the first reply: new headers replace old ones.
        self._requests.observe_headers(-math.inf, requests if isinstance(requests, int) else None, None)
        self._tokens.observe_headers(-math.inf, tokens if isinstance(tokens, int) else None, None)
        self._start_by_limit()
        if isinstance(pace, int | float) and 0.0 < pace < math.inf:
            self._pace.recover(float(pace))

    def _observe(self, now: float, sent_at: float, limits: RateLimits) -> None:
        self._observed_at = now
        self._requests.observe_headers(
            sent_at, limits.limit_requests, limits.remaining_requests, limits.reset_requests_s
        )
        self._tokens.observe_headers(sent_at, limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_s)
        self._start_by_limit()

    def _start_by_limit(self) -> None:
        limit = self._requests.limit
        if limit is not None:
            self._pace.start_from(limit / 4.0)

    def _advance(self, now: float) -> None:
        used_s = self._requests.advance(now, self.pace_per_minute)
        self._tokens.advance(now, self._tokens.even)
        if used_s:
            self._pace.grow(used_s, self._requests.even)

    def _ready_at(self, now: float, tokens: int) -> float:
        return max(
            now,
            self._pace.paused_until,
            self._requests.ready_at(now, 1, self.pace_per_minute),
            self._tokens.ready_at(now, tokens, self._tokens.even),
        )


class Pools:
    """One limiter per model, because providers limit each model separately; all have the same configured limits."""

    def __init__(
        self, *, requests_per_minute: int | None, tokens_per_minute: int | None, now: float, burst_s: float = 1.0
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._burst_s = burst_s
        self._now = now
        self._pools: dict[str, Limiter] = {}
        self._snapshots: dict[str, object] = {}

    def pool(self, model: str) -> Limiter:
        """Returns the limiter of a model, by the requested name."""
        pool = self._pools.get(model)
        if pool is None:
            pool = self._pools[model] = Limiter(
                requests_per_minute=self._requests_per_minute,
                tokens_per_minute=self._tokens_per_minute,
                now=self._now,
                burst_s=self._burst_s,
            )
            pool.restore_values(self._snapshots.get(model))
        return pool

    def snapshot(self) -> bytes:
        """Returns what was learned about every model, for the next process."""
        snapshots = {**self._snapshots, **{model: pool.as_values() for model, pool in self._pools.items()}}
        return json.dumps(snapshots, separators=(",", ":")).encode()

    def restore(self, learned: bytes) -> None:
        """Use an earlier ``snapshot``; unreadable values are ignored."""
        try:
            snapshots = json.loads(learned)
        except ValueError:
            return
        if isinstance(snapshots, dict):
            self._snapshots = snapshots
            for model, pool in self._pools.items():
                pool.restore_values(snapshots.get(model))


@fast_dataclass(kw_only=False)
class LearnedLimits:
    """What was learned of a model: the limits that replies reported, and the requests per minute that worked."""

    requests_per_minute: float | None
    tokens_per_minute: float | None
    pace_per_minute: float | None


def learned_limits(snapshot: bytes) -> Mapping[str, LearnedLimits]:
    """Returns what a snapshot of ``Pools`` says of each model; unreadable values are ignored."""
    try:
        found = json.loads(snapshot)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    known = {model: each for model, each in found.items() if isinstance(each, dict) and each.get("v") == _VERSION}
    return {
        model: LearnedLimits(*(_number(each.get(name)) for name in ("requests", "tokens", "pace")))
        for model, each in known.items()
    }


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and 0 < value < math.inf else None
