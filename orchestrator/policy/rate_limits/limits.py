"""The rate limiter: requests and tokens per minute taken together, learnt from replies, never exceeded.

Tokens are reserved as the provider counts them when a request arrives: its input and the whole of
``max_output_tokens`` (responses API, "Rate limits"). What was reserved and not generated is *not* given back, because
the provider does not give it back either; to do so would be to send more than it lets through.

The order is the caller's, and it should be strict: ask for the head of the queue only. A small request that
overtakes a large one takes the tokens that the large one waits for, again and again.
"""

from __future__ import annotations

import json
import math

from orchestrator.core.model import RateLimits
from orchestrator.policy.rate_limits.meter import Meter
from orchestrator.policy.rate_limits.pace import Pace

__all__ = ["Limiter", "Pools"]

# Calls per minute to begin with where no limit is known, or where it is not much higher; else a quarter of it.
_START = 6000.0
_LATELY_S = 2.0
_SOON_S = 0.001
# Replies that come within this time say nearly the same about the limits, and to read it costs more than to learn it.
_HEAR_EVERY_S = 0.02
_VERSION = 1


class Limiter:
    """One pool of requests and tokens per minute; ``None`` is a limit that nobody told, to be found out.

    No I/O and no clock: ``now`` is passed in, in seconds, and so is the moment at which a call was sent, because a
    reply speaks of the past. ``burst_s`` is how many seconds' worth may leave at once: for a provider that checks
    every second, a tenth. Polls take no tokens (``tokens=0``) and have a limiter of their own.
    """

    def __init__(
        self, *, requests_per_minute: int | None, tokens_per_minute: int | None, now: float, burst_s: float = 1.0
    ) -> None:
        self._requests = Meter(requests_per_minute, burst_s=burst_s, now=now)
        self._tokens = Meter(tokens_per_minute, burst_s=burst_s, now=now)
        self._pace = Pace(_START)
        self._heard_at = -math.inf
        self._start_by_limit()

    @property
    def requests_per_minute(self) -> int | None:
        """The limit on requests as far as it is known: the config's or the provider's, whichever is lower."""
        return self._requests.limit

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit on tokens as far as it is known."""
        return self._tokens.limit

    @property
    def pace_per_minute(self) -> float:
        """The requests per minute that are sent at most now; under the limit after refusals."""
        return min(self._pace.per_minute, self._requests.even)

    @property
    def paused_until(self) -> float:
        """Until then nothing is sent, because the provider said so."""
        return self._pace.paused_until

    def take(self, now: float, tokens: int) -> bool:
        """Take one request and its tokens, both or neither."""
        self._advance(now)
        if self._ready_at(now, tokens) > now:
            return False
        self._requests.spend(now, 1)
        if tokens:
            self._tokens.spend(now, tokens)
        return True

    def ready_at(self, now: float, tokens: int) -> float:
        """The earliest moment worth asking again; ``inf`` for a request that never fits."""
        self._advance(now)
        at = self._ready_at(now, tokens)
        return at if at <= now else max(at, now + _SOON_S)

    def never_fits(self, tokens: int) -> bool:
        """Whether a request needs more tokens than the limit of a whole minute, as far as that is known."""
        limit = self._tokens.limit
        return limit is not None and tokens > limit

    def refund(self, now: float, tokens: int, *, taken_at: float | None = None) -> None:
        """Give back what was taken at ``taken_at`` (default: now), because nothing was sent after all.

        A request that was refused is no case of it: providers count those, too.
        """
        self._advance(now)
        moment = now if taken_at is None else taken_at
        self._requests.give_back(moment, 1)
        self._tokens.give_back(moment, tokens)

    def listens(self, now: float) -> bool:
        """Whether to read what an accepted call was told about the limits; of many at a moment one says it all."""
        return now - self._heard_at >= _HEAR_EVERY_S

    def learn(self, now: float, sent_at: float, limits: RateLimits | None) -> None:
        """A call that left at ``sent_at`` was accepted, and the reply said this about the limits."""
        self._advance(now)
        if limits is not None:
            self._hear(now, sent_at, limits)
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
        """A call that left at ``sent_at`` was refused by the limit (429). Whether that slows us is decided here."""
        self._advance(now)
        if limits is not None:
            self._hear(now, sent_at, limits)
        window, pace = self._requests.window, self._pace
        speed = self.pace_per_minute
        if not self._requests.is_drained(speed):
            # Something else holds sending back (places, tokens, work): what was sent of late was too fast.
            lately = window.since(sent_at - _LATELY_S) * 60.0 / (now - sent_at + _LATELY_S)
            speed = min(speed, max(lately, float(window.used(now))))
        pace.refused(
            now,
            sent_at,
            speed=speed,
            retry_after_s=retry_after_s,
            ramp=slow_down,
            room=self._requests.has_room and (self._tokens.told is None or self._tokens.has_room),
        )
        if pace.paused_until > now:
            self._requests.rest_until(pace.paused_until)

    def snapshot(self) -> bytes:
        """What was learnt, for the next process that uses the same account."""
        return json.dumps(self.as_values(), separators=(",", ":")).encode()

    def restore(self, learned: bytes) -> None:
        """Take up an earlier ``snapshot``; whatever cannot be read is ignored."""
        try:
            self.take_up(json.loads(learned))
        except ValueError:
            return

    def as_values(self) -> dict[str, float | None]:
        """The snapshot as plain values, for JSON."""
        told = {"requests": self._requests.told, "tokens": self._tokens.told}
        return {"v": _VERSION, **told, "pace": self._pace.found}

    def take_up(self, snapshot: object) -> None:
        """Restore from plain values; anything else than what ``as_values`` gave is ignored."""
        if not isinstance(snapshot, dict) or snapshot.get("v") != _VERSION:
            return
        requests, tokens, pace = snapshot.get("requests"), snapshot.get("tokens"), snapshot.get("pace")
        # Only until the first reply: whatever the provider says now overrides what it said then.
        self._requests.hear(-math.inf, requests if isinstance(requests, int) else None, None)
        self._tokens.hear(-math.inf, tokens if isinstance(tokens, int) else None, None)
        self._start_by_limit()
        if isinstance(pace, int | float) and 0.0 < pace < math.inf:
            self._pace.recover(float(pace))

    def _hear(self, now: float, sent_at: float, limits: RateLimits) -> None:
        self._heard_at = now
        self._requests.hear(sent_at, limits.limit_requests, limits.remaining_requests, limits.reset_requests_s)
        self._tokens.hear(sent_at, limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_s)
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
    """One limiter per model, because providers limit each model by itself; all with the same configured limits."""

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
        """The limiter of a model, by the name that is asked for."""
        pool = self._pools.get(model)
        if pool is None:
            pool = self._pools[model] = Limiter(
                requests_per_minute=self._requests_per_minute,
                tokens_per_minute=self._tokens_per_minute,
                now=self._now,
                burst_s=self._burst_s,
            )
            pool.take_up(self._snapshots.get(model))
        return pool

    def snapshot(self) -> bytes:
        """What was learnt about every model, for the next process."""
        snapshots = {**self._snapshots, **{model: pool.as_values() for model, pool in self._pools.items()}}
        return json.dumps(snapshots, separators=(",", ":")).encode()

    def restore(self, learned: bytes) -> None:
        """Take up an earlier ``snapshot``; whatever cannot be read is ignored."""
        try:
            snapshots = json.loads(learned)
        except ValueError:
            return
        if isinstance(snapshots, dict):
            self._snapshots = snapshots
            for model, pool in self._pools.items():
                pool.take_up(snapshots.get(model))
